// What each caller in Node needs: a client of a service, the numbers of a tensor, and the details of an error.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const SERVICES = ["encoding", "generation", "models", "tasks", "tokenization"];
const definition = loadSync(
  [...SERVICES.map((name) => `bertstream/v1/${name}.proto`), "google/rpc/status.proto", "google/rpc/error_details.proto"],
  {
    includeDirs: [fileURLToPath(new URL("../../protos", import.meta.url))],
    keepCase: true, // else first_id must be written firstId, and a field of another name is left out without a word
    longs: Number, // String, where ids may be above 2^53
    enums: String,
    oneofs: true, // a message's `event` says which of its events it has
    defaults: true,
  },
);
const { bertstream } = grpc.loadPackageDefinition(definition);

// What found no room, or a server that was about to stop, is tried again when the server says so.
const serviceConfig = {
  methodConfig: [
    {
      name: [{}], // every method
      retryPolicy: {
        maxAttempts: 5,
        initialBackoff: "0.1s",
        maxBackoff: "2s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
      },
    },
  ],
};

/** Return a client of a service, such as "EncodingService". With `ca`, the bytes of a PEM file, it speaks TLS; a `key` needs that. */
export function connect(service, address, { ca, key } = {}) {
  let credentials = ca ? grpc.credentials.createSsl(ca) : grpc.credentials.createInsecure();
  if (key) credentials = grpc.credentials.combineChannelCredentials(credentials, bearer(key));
  return new bertstream.v1[service](address, credentials, { "grpc.service_config": JSON.stringify(serviceConfig) });
}

function bearer(key) {
  return grpc.credentials.createFromMetadataGenerator((_, done) => {
    const metadata = new grpc.Metadata();
    metadata.set("authorization", `Bearer ${key}`);
    done(null, metadata);
  });
}

/** Call a unary method, and return a promise of its response. The work is dropped by the server, too, after `seconds`. */
export function call(client, method, request, { seconds = 30 } = {}) {
  return new Promise((resolve, reject) => {
    client[method](request, { deadline: Date.now() + 1000 * seconds }, (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });
}

/** Return the rows of a FLOAT32 tensor of two dimensions, each a Float32Array. */
export function rows({ shape: [count, width], data }) {
  const numbers = new Float32Array(Uint8Array.from(data).buffer); // a copy, as `data` may begin at any byte of its buffer
  return Array.from({ length: count }, (_, row) => numbers.subarray(row * width, (row + 1) * width));
}

/** Return what the server says of an error: the parts of a google.rpc.Status, its details by name, such as ErrorInfo. */
export function explain(error) {
  const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
  return bytes ? opened(definition["google.rpc.Status"].deserialize(bytes)) : opened({ code: error.code, message: error.details });
}

/** Open a google.rpc.Status, such as that of an item of a stream. */
export function opened({ code, message, details = [] }) {
  const named = details.map(({ type_url, value }) => {
    const type = type_url.split("/").pop();
    return [type.replace("google.rpc.", ""), definition[type]?.deserialize(value)];
  });
  return { code: grpc.status[code], message, ...Object.fromEntries(named) };
}

/** Run an example with a client of a service, and say in a line what went wrong. Where the server is, the environment may say, too. */
export async function run(service, example) {
  const { BERTSTREAM_ADDRESS, BERTSTREAM_API_KEY: key, BERTSTREAM_TLS_CA } = process.env;
  const ca = BERTSTREAM_TLS_CA && readFileSync(BERTSTREAM_TLS_CA);
  const client = connect(service, process.argv[2] ?? BERTSTREAM_ADDRESS ?? "127.0.0.1:50051", { ca, key });
  try {
    await example(client);
  } catch (error) {
    if (error.code === "EPIPE") return; // whoever read what we print has left
    if (!(error.code in grpc.status)) throw error;
    const { code, message, ErrorInfo } = explain(error);
    console.error([code, ErrorInfo?.reason, message].filter(Boolean).join(" "));
    process.exitCode = 1;
  } finally {
    client.close();
  }
}
