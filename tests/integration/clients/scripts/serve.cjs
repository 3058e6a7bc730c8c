// Copyright the Kypello authors.
// SPDX-License-Identifier: Apache-2.0
//
// Does what a story asks for, on standard input, with a client of Node.

"use strict";

const { createInterface } = require("node:readline");
const vm = require("node:vm");

// Run the settings, and give the client that they make.
function makeClient(code) {
  globalThis.require = require;
  vm.runInThisContext(code);
  return vm.runInThisContext("client");
}

// Answer until there are no more questions; an error ends everything.
async function serve(operations) {
  for await (const line of createInterface({ input: process.stdin })) {
    const [operation, named] = JSON.parse(line);
    const answer = await operations[operation](named);
    process.stdout.write(`${JSON.stringify(answer ?? null)}\n`);
  }
}

// The bytes of a stream, in hex.
async function hex(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString("hex");
}

module.exports = { hex, makeClient, serve };
