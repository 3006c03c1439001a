// Calls services with the clients of connect-node, as a customer's program does. Each line of standard input is a call,
// {"url", "protocol", "service", "method", "token", "request"}, and each line of standard output what it was answered:
// {"ok": message} or {"code", "message"}. The environment's DESCRIPTORS names the file with the descriptors of the services.
//
// protocol: connect (binary), connect-json, connect-get (what has no side effects by GET), grpc-web, grpc-web-json, or grpc.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { createFileRegistry, fromBinary, fromJson, toJson } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";

const descriptors = process.env.DESCRIPTORS;
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)));

function transport(protocol, baseUrl) {
  const over = { baseUrl, httpVersion: "1.1" };
  switch (protocol) {
    case "connect":
      return createConnectTransport({ ...over, useBinaryFormat: true });
    case "connect-json":
      return createConnectTransport({ ...over, useBinaryFormat: false });
    case "connect-get":
      return createConnectTransport({ ...over, useBinaryFormat: false, useHttpGet: true });
    case "grpc-web":
      return createGrpcWebTransport({ ...over, useBinaryFormat: true });
    case "grpc-web-json":
      return createGrpcWebTransport({ ...over, useBinaryFormat: false });
    case "grpc":
      return createGrpcTransport({ baseUrl });
    default:
      throw new Error(`there is no protocol ${protocol}`);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { url, protocol, service, method, token, request } = JSON.parse(line);
  const found = registry.getService(service);
  const rpc = found?.methods.find((known) => known.name === method);
  if (rpc === undefined) {
    throw new Error(`there is no ${service}/${method} in ${descriptors}`);
  }
  const client = createClient(found, transport(protocol, url));
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    const message = await client[rpc.localName](fromJson(rpc.input, request), { headers, timeoutMs: 20000 });
    answer = { ok: toJson(rpc.output, message, { registry }) };
  } catch (error) {
    const fault = ConnectError.from(error);
    answer = { code: Code[fault.code], message: fault.rawMessage };
  }
  console.log(JSON.stringify(answer));
}
