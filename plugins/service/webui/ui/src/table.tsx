import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { number } from "./wire";

export interface Column<T> {
  title: string;
  /** What rows are sorted by, and found by if it is text. */
  value: (row: T) => string | number;
  /** What is shown; the value if there is none. */
  cell?: (row: T) => ComponentChildren;
  numeric?: boolean;
}

const order = new Intl.Collator("en", { numeric: true }).compare;
const pageSize = 100; // rows that exist in the page at a time, however many there are

interface Props<T> {
  /** What the rows are, in the plural, by an s. */
  what: string;
  rows: T[];
  columns: Column<T>[];
  id: (row: T) => string;
  /** The column that rows are sorted by at first; -1 and less: downwards, counted from 1. */
  sort?: number;
  filter?: string;
  /** Further choices, beside the filter. */
  children?: ComponentChildren;
  /** Shown when there is no row at all. */
  empty?: string;
}

/** A table that can be filtered and sorted, and stays usable with very many rows. */
export function Table<T>({ what, rows, columns, id, sort = 1, filter = "", children, empty }: Props<T>) {
  const [wanted, setWanted] = useState(filter);
  const [by, setBy] = useState(sort);
  const [page, setPage] = useState(0);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => setWanted(filter), [filter]);
  useEffect(() => {
    const slash = (e: KeyboardEvent) => {
      if (e.key !== "/" || e.ctrlKey || e.metaKey || e.altKey || e.target instanceof HTMLInputElement) return;
      e.preventDefault();
      input.current?.focus();
    };
    addEventListener("keydown", slash);
    return () => removeEventListener("keydown", slash);
  }, []);

  const shown = useMemo(() => {
    const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (row: T) => columns.map((c) => c.value(row)).join("\n").toLowerCase();
    const found = words.length ? rows.filter((row) => ((t) => words.every((w) => t.includes(w)))(text(row))) : [...rows];
    const key = columns[Math.abs(by) - 1]?.value;
    if (!key) return found;
    const sign = Math.sign(by);
    return found
      .map((row) => [key(row), id(row), row] as const)
      .sort(([a, x], [b, y]) => sign * (typeof a === "number" && typeof b === "number" ? a - b : order(String(a), String(b))) || (x < y ? -1 : 1))
      .map(([, , row]) => row);
  }, [rows, wanted, by]);

  const last = Math.max(0, Math.ceil(shown.length / pageSize) - 1);
  const at = Math.min(page, last);
  const part = shown.slice(at * pageSize, (at + 1) * pageSize);
  const choose = (column: number) => {
    setBy(by === column ? -column : column);
    setPage(0);
  };
  if (rows.length === 0 && !children) return <p class="empty">{empty ?? `There are no ${what}.`}</p>;
  return (
    <div class="listing">
      <div class="tools">
        <input
          ref={input}
          type="search"
          aria-label={`Filter ${what}`}
          placeholder="Filter  ( / )"
          value={wanted}
          onInput={(e) => {
            setWanted(e.currentTarget.value);
            setPage(0);
          }}
          onKeyDown={(e) => e.key === "Escape" && setWanted("")}
        />
        {children}
        <span class="count" role="status">
          {`${shown.length === rows.length ? "" : `${number(shown.length)} of `}${number(rows.length)} ${rows.length === 1 ? what.slice(0, -1) : what}`}
        </span>
        {last > 0 && (
          <span class="pager">
            <button type="button" disabled={at === 0} onClick={() => setPage(at - 1)}>Back</button>
            <span>{`${at + 1} of ${last + 1}`}</span>
            <button type="button" disabled={at === last} onClick={() => setPage(at + 1)}>Next</button>
          </span>
        )}
      </div>
      <div class="scroll" tabIndex={0} role="region" aria-label={what}>
        <table>
          <thead>
            <tr>
              {columns.map((c, i) => (
                <th key={c.title} class={c.numeric ? "numeric" : undefined} aria-sort={Math.abs(by) !== i + 1 ? "none" : by > 0 ? "ascending" : "descending"}>
                  <button type="button" onClick={() => choose(i + 1)}>{c.title}</button>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {part.map((row) => (
              <tr key={id(row)}>
                {columns.map((c) => (
                  <td key={c.title} class={c.numeric ? "numeric" : undefined}>{c.cell ? c.cell(row) : c.value(row)}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
        {shown.length === 0 && <p class="empty">{rows.length ? `No ${what} match.` : (empty ?? `There are no ${what}.`)}</p>}
      </div>
    </div>
  );
}
