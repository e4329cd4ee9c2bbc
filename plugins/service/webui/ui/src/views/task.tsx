import { useState } from "preact/hooks";
import { Facts, Name, TaskState, Use } from "../parts";
import { useCluster, usePoll, useUsage } from "../poll";
import { to } from "../route";
import { addressOf, ago, amount, bytes, executorOf, hasEnded, lacksStatus, megabytes, number, scalar, stateName, taskKey, type Task } from "../wire";
import { Log } from "./log";

interface Entry {
  name: string;
  size: number;
  mode: number;
  mtime: number;
  folder: boolean;
}

/** The query that names a place in a task's sandbox. */
const place = (t: Task, path: string) =>
  new URLSearchParams({ agent: t.agent_id.value, framework: t.framework_id.value, executor: executorOf(t), path }).toString();

const regular = 0o100000;
const kinds = 0o170000;

/** The files of a task, and the one that is chosen, as it grows. */
function Sandbox({ task }: { task: Task }) {
  const [folder, setFolder] = useState("");
  const [file, setFile] = useState("stdout");
  const [entries, setEntries] = useState<Entry[]>([]);
  const [problem, setProblem] = useState("");
  const over = hasEnded(task);
  usePoll(
    async () => {
      try {
        const response = await fetch("./data/files?" + place(task, folder));
        setProblem(response.ok ? "" : await response.text());
        if (response.ok) setEntries(await response.json());
      } catch {
        setProblem("The files can't be listed now.");
      }
      return !over;
    },
    5000,
    [task.agent_id.value, folder, task.state],
  );
  const below = (name: string) => (folder ? `${folder}/${name}` : name);
  return (
    <section>
      <h2>Sandbox</h2>
      {problem && <p class="warning">{problem}</p>}
      <div class="sandbox">
        <nav aria-label="Files of the sandbox" class="card">
          <p class="hint"><bdi>{"/" + folder}</bdi></p>
          <ul class="plain">
            {folder && <li><button type="button" class="link" onClick={() => setFolder(folder.split("/").slice(0, -1).join("/"))}>⤴ up</button></li>}
            {entries.map((e) => (
              <li key={e.name}>
                {e.folder ? (
                  <button type="button" class="link" onClick={() => setFolder(below(e.name))}><bdi>{e.name + "/"}</bdi></button>
                ) : (e.mode & kinds) === regular ? (
                  <button type="button" class="link" aria-current={below(e.name) === file ? "true" : undefined} onClick={() => setFile(below(e.name))}><bdi>{e.name}</bdi></button>
                ) : (
                  <bdi class="hint">{e.name}</bdi>
                )}
                {!e.folder && <span class="right hint">{bytes(e.size)}</span>}
              </li>
            ))}
          </ul>
        </nav>
        <Log key={taskKey(task.framework_id.value, task.task_id.value) + file} name={file} query={place(task, file)} over={over} />
      </div>
    </section>
  );
}

export function TaskPage({ framework, task }: { framework: string; task: string }) {
  const cluster = useCluster();
  const usage = useUsage();
  const t = cluster.tasks.get(taskKey(framework, task));
  const lacking = t !== undefined && lacksStatus(t);
  usePoll(
    async () => {
      if (lacking) await cluster.complete(framework, task).catch(() => {}); // the stream notices that the master is gone
      return lacking;
    },
    2000,
    [framework, task, lacking],
  );
  if (!t) return <p class="empty">The master knows no such task; it may have ended long ago.</p>;
  const f = cluster.frameworks.get(framework) ?? cluster.completed.get(framework);
  const agent = cluster.agents.get(t.agent_id.value);
  const used = hasEnded(t) ? undefined : usage.of(t);
  const shared = executorOf(t) !== t.task_id.value;
  return (
    <>
      <Facts rows={[
        ["State", <TaskState state={t.state} />],
        ["CPUs", <Use promised={scalar(t.resources, "cpus")} measured={used?.cpus} show={(n) => number(n, 2)} />],
        ["Memory", <Use promised={scalar(t.resources, "mem")} measured={used?.memory === undefined ? undefined : used.memory / (1 << 20)} show={megabytes} />],
        ["Measured", shared && used ? "its whole executor, which other tasks may share" : ""],
        ["Network", used?.received === undefined ? "" : `${bytes(used.received)} in, ${bytes(used.sent ?? 0)} out`],
        ["Promised", (t.resources ?? []).map((r) => `${r.name} ${amount(r)}`).join("; ")],
        ["Framework", <Name href={to("frameworks", framework)}>{f?.framework_info.name ?? framework}</Name>],
        ["Agent", <Name href={to("agents", t.agent_id.value)}>{agent ? addressOf(agent) : t.agent_id.value}</Name>],
        ["Id", <code>{t.task_id.value}</code>],
        ["Executor", shared ? <code>{executorOf(t)}</code> : ""],
        ["Labels", (t.labels?.labels ?? []).length ? t.labels?.labels?.map((l, i) => <bdi key={i} class="tag">{`${l.key}: ${l.value ?? ""}`}</bdi>) : ""],
      ]} />
      <Sandbox task={t} />
      <h2>What became of it</h2>
      <ol class="plain history card">
        {(t.statuses ?? []).map((s, i) => (
          <li key={i}>
            <TaskState state={s.state} /> <bdi>{s.message ?? ""}</bdi>
            {s.reason && <span class="hint">{stateName(s.reason.replace(/^REASON_/, ""))}</span>}
            {s.timestamp && <time class="right hint" dateTime={new Date(s.timestamp * 1000).toISOString()} title={new Date(s.timestamp * 1000).toLocaleString()}>{ago(s.timestamp * 1000)} ago</time>}
          </li>
        ))}
      </ol>
    </>
  );
}
