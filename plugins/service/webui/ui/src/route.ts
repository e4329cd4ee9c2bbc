// Where the page is: behind the address's #, since the master itself has /tasks, /frameworks and the like.

import { useEffect, useState } from "preact/hooks";

export interface Place {
  /** The parts between slashes, decoded: ["tasks", FRAMEWORK, TASK]. */
  path: string[];
  query: URLSearchParams;
}

function parse(): Place {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const decode = (part: string) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  };
  return { path: path.split("/").filter(Boolean).map(decode), query: new URLSearchParams(query) };
}

export function usePlace(): Place {
  const [place, set] = useState(parse);
  useEffect(() => {
    const moved = () => set(parse());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return place;
}

export const to = (...path: string[]): string => "#/" + path.map(encodeURIComponent).join("/");

export const toFiltered = (view: string, text: string): string => `#/${view}?q=${encodeURIComponent(text)}`;
