import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { usePoll } from "../poll";
import { bytes } from "../wire";

const every = 1000; // milliseconds; agents tell nobody that a file has grown
const shownAtFirst = 64 << 10; // bytes from the end
const kept = 256 << 10; // characters
const behind = 4 << 20; // bytes; further behind the end than this, what is between is skipped

/** Where the reading of a file stands. */
interface Reading {
  offset: number; // of the next byte; negative: that many before the end
  text: TextDecoder;
  quiet: boolean; // nothing new the last time
}

const begin = (offset: number): Reading => ({ offset, text: new TextDecoder(), quiet: false });

/** The end of a file, followed while its task has not ended. */
export function Log({ name, query, over }: { name: string; query: string; over: boolean }) {
  const reading = useRef(begin(-shownAtFirst));
  const [text, setText] = useState("");
  const [size, setSize] = useState(0);
  const [cut, setCut] = useState(false);
  const [problem, setProblem] = useState("");
  const [ended, setEnded] = useState(false);
  const [follow, setFollow] = useState(true);
  const box = useRef<HTMLPreElement>(null);

  /** Reads the next part, and tells whether there is more right now. */
  const next = async (): Promise<boolean> => {
    const at = reading.current;
    const response = await fetch(`./data/file?${query}&offset=${at.offset}`);
    if (!response.ok) {
      setProblem(response.status === 404 && !over ? "There is no such file yet." : await response.text());
      return false;
    }
    setProblem("");
    const offset = Number(response.headers.get("Gantry-File-Offset"));
    const whole = Number(response.headers.get("Gantry-File-Size"));
    const part = new Uint8Array(await response.arrayBuffer());
    if (reading.current !== at) return false;
    setSize(whole);
    if (whole < at.offset || (at.offset >= 0 && whole - at.offset > behind)) { // it was written anew, or by far too fast
      reading.current = begin(-shownAtFirst);
      setText("");
      setCut(false);
      return true;
    }
    if (at.offset < 0 && offset > 0) setCut(true);
    at.offset = offset + part.length;
    at.quiet = part.length === 0;
    const more = at.text.decode(part, { stream: true });
    if (more) {
      setText((old) => {
        const all = old + more;
        if (all.length <= kept) return all;
        setCut(true);
        return all.slice(all.indexOf("\n", all.length - kept) + 1);
      });
    }
    return at.offset < whole && part.length > 0;
  };

  usePoll(
    async () => {
      try {
        while (await next());
      } catch {
        setProblem("The file can't be read now.");
        return true;
      }
      const done = over && reading.current.quiet;
      setEnded(done);
      return !done;
    },
    every,
    [query, over],
  );

  useLayoutEffect(() => {
    if (follow && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [text, follow]);

  return (
    <section class="log" aria-label={`Output: ${name}`}>
      <div class="tools">
        <strong><bdi>{name}</bdi></strong>
        <span class="hint">{problem || `${bytes(size)}${ended ? ", the task has ended" : ", live"}`}</span>
        <label class="right"><input type="checkbox" checked={follow} onChange={(e) => setFollow(e.currentTarget.checked)} /> Follow</label>
      </div>
      {cut && <p class="hint">What came before is left out here.</p>}
      <pre
        ref={box}
        tabIndex={0}
        onScroll={(e) => {
          const b = e.currentTarget;
          setFollow(b.scrollHeight - b.scrollTop - b.clientHeight < 8);
        }}
      >
        {text}
      </pre>
    </section>
  );
}
