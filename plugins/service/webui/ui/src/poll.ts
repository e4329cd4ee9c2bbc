// What has to be asked for again and again, because nothing tells of it: what tasks use, offers, plugins, files.

import { useEffect, useReducer, useState } from "preact/hooks";
import { cluster } from "./cluster";
import { executorOf, taskKey, type Task } from "./wire";

/** Draws a component anew when the cluster has changed. */
export function useCluster() {
  const [, draw] = useReducer((n: number) => n + 1, 0);
  useEffect(() => cluster.listen(() => draw(undefined)), []);
  return cluster;
}

/**
 * Asks now and then, while the component is there and the page is seen. One that takes long to answer is asked less
 * often. Ask returns whether to go on.
 */
export function usePoll(ask: () => Promise<boolean>, every: number, inputs: readonly unknown[]): void {
  useEffect(() => {
    let timer = 0;
    let over = false;
    const turn = async () => {
      const began = Date.now();
      const go = document.hidden || (await ask());
      if (!over && go) timer = window.setTimeout(turn, Math.max(every, 5 * (Date.now() - began)));
    };
    void turn();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, inputs);
}

/** An answer, or why there is none; neither while it is asked for the first time. */
export interface Answer<T> {
  value?: T;
  problem?: string;
}

/** JSON from an address of this site, kept up to date. */
export function useJSON<T>(address: string, every: number): Answer<T> {
  const [answer, set] = useState<Answer<T>>({});
  usePoll(
    async () => {
      try {
        const response = await fetch(address);
        set(response.ok ? { value: await response.json() } : { problem: await response.text() });
      } catch (e) {
        set((last) => ({ ...last, problem: `There is no answer: ${e instanceof Error ? e.message : e}.` }));
      }
      return true;
    },
    every,
    [address],
  );
  return answer;
}

/** What one container uses now. */
export interface Used {
  agent: string;
  cpus?: number;
  memory?: number;
  received?: number;
  sent?: number;
}

interface Container {
  agent: string;
  framework: string;
  executor: string;
  at: number;
  cpu: number;
  memory?: number;
  received?: number;
  sent?: number;
}

let samples = new Map<string, Container & { cpus?: number }>();

/** What all containers use, by framework and executor. Rates need two measurements, so the first has none. */
export function useUsage(): { of: (t: Task) => Used | undefined; all: Used[]; silent: number } {
  const { value } = useJSON<{ containers: Container[]; silent: string[] }>("./data/usage", 3000);
  if (value) {
    const next = new Map<string, Container & { cpus?: number }>();
    for (const c of value.containers) {
      const key = taskKey(c.framework, c.executor);
      const last = samples.get(key);
      let cpus = last?.cpus;
      if (last && c.at > last.at) cpus = Math.max(0, (c.cpu - last.cpu) / (c.at - last.at));
      next.set(key, { ...c, cpus });
    }
    samples = next;
  }
  return {
    of: (t) => samples.get(taskKey(t.framework_id.value, executorOf(t))),
    all: [...samples.values()],
    silent: value?.silent.length ?? 0,
  };
}

/** Keeps what no event tells up to date while a component shows it. */
export function useRefresh(): void {
  usePoll(
    async () => {
      await cluster.refresh().catch(() => {}); // the stream notices that the master is gone, and says so
      return true;
    },
    3000,
    [],
  );
}
