// Rpcs as JSON: POST api/rpc/{service}/{method}.

import { eventsOf } from "../events.js";
import { request } from "../session.js";

const CODES = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
];

/** A google.rpc.Status, as an error. */
class RpcError extends Error {
  constructor(status) {
    super(status.message ?? "");
    this.code = CODES[status.code] ?? `code ${status.code}`;
    const detail = (kind) => (status.details ?? []).find((each) => each["@type"]?.endsWith(`google.rpc.${kind}`));
    this.reason = detail("ErrorInfo")?.reason ?? "";
    this.requestId = detail("RequestInfo")?.requestId ?? "";
  }
}

/** Calls an rpc, such as "EncodingService/EncodeTexts", and returns the answer. Raises RpcError. */
export async function call(rpc, message, signal) {
  return (await post(rpc, message, signal)).json();
}

/** Calls an rpc that streams its answers, and yields each. Raises RpcError, also halfway. */
export async function* stream(rpc, message, signal) {
  const response = await post(rpc, message, signal);
  for await (const { kind, data } of eventsOf(response)) {
    if (kind === "end") return;
    const value = JSON.parse(data);
    if (kind === "error") throw new RpcError(value);
    yield value;
  }
  throw new RpcError({ code: CODES.indexOf("UNAVAILABLE"), message: "the stream broke off" });
}

async function post(rpc, message, signal) {
  let response;
  try {
    const headers = { "content-type": "application/json" };
    response = await request(`api/rpc/bertstream.v1.${rpc}`, {
      method: "POST",
      headers,
      body: JSON.stringify(message),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RpcError({ code: CODES.indexOf("UNAVAILABLE"), message: "this port does not answer" });
  }
  if (!response.ok) throw new RpcError(await statusOf(response));
  return response;
}

async function statusOf(response) {
  try {
    return await response.json();
  } catch {
    return { code: CODES.indexOf("UNKNOWN"), message: `HTTP ${response.status}` };
  }
}
