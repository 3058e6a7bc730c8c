// Copyright the Kypello authors.
// SPDX-License-Identifier: Apache-2.0
//
// minio-js.

"use strict";

const { createHash } = require("node:crypto");
const { createWriteStream } = require("node:fs");
const { pipeline } = require("node:stream/promises");
const Minio = require("minio");
const { hex, makeClient, serve } = require("./serve.cjs");

const MIB = 1024 * 1024;

let client, bucket, writing, reading;

serve({
  connect(named) {
    client = makeClient(named.code);
    bucket = named.bucket;
    const raw = Buffer.from(named.customer_key, "hex");
    const key = raw.toString("base64");
    const md5 = createHash("md5").update(raw).digest("base64");
    const triple = { SSECustomerAlgorithm: "AES256", SSECustomerKey: key, SSECustomerKeyMD5: md5 };
    const prefix = "X-Amz-Server-Side-Encryption";
    writing = {
      plain: {},
      "sse-s3": { [prefix]: "AES256" },
      "sse-c": {
        [`${prefix}-Customer-Algorithm`]: "AES256",
        [`${prefix}-Customer-Key`]: key,
        [`${prefix}-Customer-Key-MD5`]: md5,
      },
    };
    reading = { plain: {}, "sse-s3": {}, "sse-c": triple };
  },
  async make_bucket() {
    await client.makeBucket(bucket);
  },
  async remove_bucket() {
    await client.removeBucket(bucket);
  },
  // In parts if it is large, but for SSE-C: its parts bring no key along.
  async put({ source, key, kind }) {
    client.partSize = (kind === "sse-c" ? 64 : 8) * MIB;
    await client.fPutObject(bucket, key, source, writing[kind]);
  },
  // What reads to a file asks for the size first, and forgets the key then.
  async get({ key, target, kind }) {
    if (kind !== "sse-c") return client.fGetObject(bucket, key, target);
    const stream = await client.getObject(bucket, key, reading[kind]);
    return pipeline(stream, createWriteStream(target));
  },
  async get_range({ key, first, last, kind }) {
    return hex(await client.getPartialObject(bucket, key, first, last + 1 - first, reading[kind]));
  },
  async keys({ prefix }) {
    const found = {};
    for await (const entry of client.listObjectsV2(bucket, prefix, true)) {
      found[entry.name] = entry.size;
    }
    return found;
  },
  // Its own description of encryption is refused by itself.
  async copy({ source, target, kind }) {
    const from = new Minio.CopySourceOptions({ Bucket: bucket, Object: source });
    const Headers = { ...writing[kind] };
    for (const [name, value] of Object.entries(kind === "sse-c" ? writing[kind] : {})) {
      Headers[name.replace("X-Amz-", "X-Amz-Copy-Source-")] = value;
    }
    const to = new Minio.CopyDestinationOptions({ Bucket: bucket, Object: target, Headers });
    await client.copyObject(from, to);
    return true;
  },
  sync() {},
  async delete({ keys }) {
    await client.removeObjects(bucket, keys);
  },
});
