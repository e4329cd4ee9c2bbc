const newline = 10;
const maxRecord = 1 << 29;

/** Takes a RecordIO stream apart: each record is its length in decimal, a newline, and that many bytes of UTF-8. */
export async function* records(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = stream.getReader();
  const text = new TextDecoder();
  let buffer = new Uint8Array(64 << 10);
  let begin = 0;
  let end = 0;
  let length = -1; // of the record that is under way; -1: its length is not known yet
  try {
    for (;;) {
      if (length < 0) {
        const at = buffer.subarray(begin, end).indexOf(newline);
        if (at >= 0) {
          length = Number(text.decode(buffer.subarray(begin, begin + at)));
          if (!Number.isInteger(length) || length < 0 || length > maxRecord) throw new Error("the master's stream is no RecordIO");
          begin += at + 1;
          continue;
        }
        if (end - begin > 20) throw new Error("the master's stream is no RecordIO");
      } else if (end - begin >= length) {
        const record = text.decode(buffer.subarray(begin, begin + length));
        begin += length;
        length = -1;
        yield record;
        continue;
      }
      const { done, value } = await reader.read();
      if (done) return;
      if (end + value.length > buffer.length) {
        const size = end - begin + value.length;
        const to = size > buffer.length ? new Uint8Array(2 * size) : buffer;
        to.set(buffer.subarray(begin, end));
        end -= begin;
        begin = 0;
        buffer = to;
      }
      buffer.set(value, end);
      end += value.length;
    }
  } finally {
    reader.cancel().catch(() => {}); // it may have failed already
  }
}
