// The commands that make the same call from a terminal.

import { usesKey } from "../session.js";

const PLAIN = /^[\w@%+=:,./-]+$/;

/** Quotes a word for a shell of POSIX. */
export function quoted(word) {
  return PLAIN.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

const isSecure = () => location.protocol === "https:";

/** Returns the command of `bertstream`, given its words. Options come first, so that a text may begin with a dash. */
export function bertstreamCommand(address, [name, ...options], texts) {
  const server = [...(address ? ["--address", address] : []), ...(isSecure() ? ["--tls"] : [])];
  const key = usesKey() ? "BERTSTREAM_API_KEY=… " : "";
  const words = ["bertstream", name, ...server, ...options, "--literal", "--", ...texts];
  return key + words.map(quoted).join(" ");
}

/** Returns the command of grpcurl, which asks the server for its protos by reflection. */
export function grpcurlCommand(address, rpc, message) {
  const key = usesKey() ? ["-H", "authorization: Bearer …"] : [];
  const plain = isSecure() ? [] : ["-plaintext"];
  const words = [
    "grpcurl",
    ...plain,
    ...key,
    "-d",
    JSON.stringify(message),
    address || "127.0.0.1:50051",
    `bertstream.v1.${rpc}`,
  ];
  return words.map(quoted).join(" ");
}
