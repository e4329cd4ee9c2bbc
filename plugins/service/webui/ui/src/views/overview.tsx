import { useMemo } from "preact/hooks";
import { Bar, TaskLink, TaskState } from "../parts";
import { useCluster, useJSON, useRefresh, useUsage, type Used } from "../poll";
import { ago, hasEnded, megabytes, number, scalar } from "../wire";
import type { Plugin } from "./plugins";

function Gauge({ title, total, promised, measured, show }: {
  title: string; total: number; promised: number; measured?: number; show: (n: number) => string;
}) {
  return (
    <section class="card gauge">
      <h2>{title}</h2>
      <p class="figure">{show(promised)} <small>of {show(total)} promised</small></p>
      <Bar total={total} promised={promised} measured={measured} label={`${show(promised)} of ${show(total)} promised`} />
      <p class="hint">{measured === undefined ? "not measured" : <>{show(measured)} measured</>}</p>
    </section>
  );
}

function Tile({ href, figure, what, note, bad }: { href: string; figure: number; what: string; note?: string; bad?: boolean }) {
  return (
    <a class={bad ? "card tile bad" : "card tile"} href={href}>
      <span class="figure">{number(figure)}</span>
      <span>{what}</span>
      {note && <small>{note}</small>}
    </a>
  );
}

export function Overview() {
  const cluster = useCluster();
  const usage = useUsage();
  const plugins = useJSON<Plugin[]>("/gantry/v1/plugins", 5000).value ?? [];
  useRefresh();
  const agents = [...cluster.agents.values()];
  const frameworks = [...cluster.frameworks.values()];
  const states = useMemo(() => {
    const count = new Map<string, number>();
    for (const t of cluster.tasks.values()) count.set(t.state, (count.get(t.state) ?? 0) + 1);
    return [...count].sort(([, a], [, b]) => b - a);
  }, [cluster.version]);
  const running = states.find(([s]) => s === "TASK_RUNNING")?.[1] ?? 0;
  const alive = [...cluster.tasks.values()].filter((t) => !hasEnded(t)).length;
  const total = (name: string) => agents.reduce((n, a) => n + scalar(a.total_resources, name), 0);
  const promised = (name: string) => agents.reduce((n, a) => n + scalar(a.allocated_resources, name), 0);
  const offers = frameworks.reduce((n, f) => n + (f.offers?.length ?? 0), 0);
  const away = agents.filter((a) => !a.active).length;
  const gone = frameworks.filter((f) => !f.connected).length;
  const down = plugins.filter((p) => p.state !== "running").length;
  const sum = (pick: (u: Used) => number | undefined) => {
    const known = usage.all.map(pick).filter((n) => n !== undefined);
    return known.length || alive === 0 ? known.reduce((a, b) => a + b, 0) : undefined;
  };
  return (
    <>
      <div class="cards">
        <Gauge title="CPUs" total={total("cpus")} promised={promised("cpus")} measured={sum((u) => u.cpus)} show={(n) => number(n, 2)} />
        <Gauge title="Memory" total={total("mem")} promised={promised("mem")} measured={sum((u) => u.memory && u.memory / (1 << 20))} show={megabytes} />
        <Gauge title="Disk" total={total("disk")} promised={promised("disk")} show={megabytes} />
      </div>
      {usage.silent > 0 && <p class="warning">{usage.silent} of {agents.length} agents do not tell what their tasks use.</p>}
      <div class="cards tiles">
        <Tile href="#/agents" figure={agents.length} what={agents.length === 1 ? "agent" : "agents"} note={away ? `${away} away` : undefined} bad={away > 0} />
        <Tile href="#/tasks" figure={running} what="tasks running" note={alive > running ? `${alive - running} on their way` : undefined} />
        <Tile href="#/frameworks" figure={frameworks.length} what={frameworks.length === 1 ? "framework" : "frameworks"} note={gone ? `${gone} disconnected` : undefined} bad={gone > 0} />
        <Tile href="#/offers" figure={offers} what={offers === 1 ? "offer out" : "offers out"} />
        <Tile href="#/plugins" figure={plugins.length} what="plugins" note={down ? `${down} not running` : undefined} bad={down > 0} />
      </div>
      <div class="columns">
        <section class="card">
          <h2>Tasks by state</h2>
          {states.length === 0 && <p class="empty">There are no tasks.</p>}
          <ul class="plain">
            {states.map(([state, n]) => <li key={state}><TaskState state={state} /> <span class="right">{number(n)}</span></li>)}
          </ul>
        </section>
        <section class="card wide">
          <h2>Latest</h2>
          {cluster.changes.length === 0 && <p class="empty">Nothing has happened yet.</p>}
          <ul class="plain latest">
            {cluster.changes.map((c, i) => (
              <li key={i}>
                {c.task ? <><TaskLink task={c.task} /> {c.text.startsWith("TASK_") ? <TaskState state={c.text} /> : c.text}</> : <bdi>{c.text}</bdi>}
                <span class="right hint">{ago(c.at)}</span>
              </li>
            ))}
          </ul>
        </section>
      </div>
    </>
  );
}
