// Tensors of answers, and what is computed of them here.

/** Returns the numbers of a Tensor of FLOAT32 in JSON, whose bytes are base64. */
export function floats(tensor) {
  const text = atob(tensor?.data ?? "");
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/** Returns the rows of a Tensor of two dimensions. */
export function rowsOf(tensor) {
  const numbers = floats(tensor);
  const width = Number(tensor?.shape?.[1] ?? 0);
  return width
    ? Array.from({ length: numbers.length / width }, (_, i) => numbers.subarray(i * width, (i + 1) * width))
    : [];
}

function dot(one, other) {
  let sum = 0;
  for (let i = 0; i < one.length; i += 1) sum += one[i] * other[i];
  return sum;
}

export const norm = (vector) => Math.sqrt(dot(vector, vector));

export function cosine(one, other) {
  return dot(one, other) / (norm(one) * norm(other) || 1);
}
