// Copyright the Kypello authors.
// SPDX-License-Identifier: Apache-2.0
//
// The AWS SDK for JavaScript, version 3.

"use strict";

const { createReadStream, createWriteStream } = require("node:fs");
const { pipeline } = require("node:stream/promises");
const s3 = require("@aws-sdk/client-s3");
const { Upload } = require("@aws-sdk/lib-storage");
const { hex, makeClient, serve } = require("./serve.cjs");

let client, Bucket, writing, reading;

serve({
  connect(named) {
    client = makeClient(named.code);
    Bucket = named.bucket;
    const key = Buffer.from(named.customer_key, "hex");
    const customer = { SSECustomerAlgorithm: "AES256", SSECustomerKey: key };
    writing = {
      plain: {},
      "sse-s3": { ServerSideEncryption: "AES256" },
      "sse-c": customer,
    };
    reading = { plain: {}, "sse-s3": {}, "sse-c": customer };
  },
  async make_bucket() {
    await client.send(new s3.CreateBucketCommand({ Bucket }));
  },
  async remove_bucket() {
    await client.send(new s3.DeleteBucketCommand({ Bucket }));
  },
  // In parts if it is large.
  async put({ source, key, kind }) {
    const params = { Bucket, Key: key, Body: createReadStream(source), ...writing[kind] };
    await new Upload({ client, params }).done();
  },
  async get({ key, target, kind }) {
    const got = await client.send(
      new s3.GetObjectCommand({ Bucket, Key: key, ...reading[kind] }),
    );
    await pipeline(got.Body, createWriteStream(target));
  },
  async get_range({ key, first, last, kind }) {
    const got = await client.send(
      new s3.GetObjectCommand({
        Bucket,
        Key: key,
        Range: `bytes=${first}-${last}`,
        ...reading[kind],
      }),
    );
    return hex(got.Body);
  },
  async keys({ prefix }) {
    const found = {};
    for await (const page of s3.paginateListObjectsV2({ client }, { Bucket, Prefix: prefix })) {
      for (const entry of page.Contents ?? []) found[entry.Key] = entry.Size;
    }
    return found;
  },
  async copy({ source, target, kind }) {
    const key = writing["sse-c"].SSECustomerKey;
    const opening = { CopySourceSSECustomerAlgorithm: "AES256", CopySourceSSECustomerKey: key };
    await client.send(
      new s3.CopyObjectCommand({
        Bucket,
        Key: target,
        CopySource: encodeURIComponent(`${Bucket}/${source}`),
        ...writing[kind],
        ...(kind === "sse-c" ? opening : {}),
      }),
    );
    return true;
  },
  sync() {},
  async delete({ keys }) {
    const Objects = keys.map((Key) => ({ Key }));
    const answer = await client.send(new s3.DeleteObjectsCommand({ Bucket, Delete: { Objects } }));
    if (answer.Errors?.length) throw new Error(JSON.stringify(answer.Errors));
  },
});
