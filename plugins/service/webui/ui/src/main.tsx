import { render, type ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { cluster } from "./cluster";
import { useCluster } from "./poll";
import { usePlace, type Place } from "./route";
import { addressOf, taskKey, type Agent } from "./wire";
import { AgentPage, Agents } from "./views/agents";
import { Applications } from "./views/applications";
import { FrameworkPage, Frameworks } from "./views/frameworks";
import { Jobs } from "./views/jobs";
import { Offers } from "./views/offers";
import { Overview } from "./views/overview";
import { Plugins } from "./views/plugins";
import { TaskPage } from "./views/task";
import { Tasks } from "./views/tasks";

const views = ["overview", "agents", "tasks", "frameworks", "offers", "applications", "jobs", "plugins"];

const capital = (word: string) => word.charAt(0).toUpperCase() + word.slice(1);

const titleOf = (a?: Agent) => (a ? `Agent ${addressOf(a)}` : "Agent");

/** The title of a place, and what is there. */
function find({ path: [view = "overview", a, b], query }: Place): [string, ComponentChildren] {
  const filter = query.get("q") ?? "";
  switch (view) {
    case "overview":
      return ["Overview", <Overview />];
    case "agents":
      if (a) return [titleOf(cluster.agents.get(a)), <AgentPage key={a} id={a} />];
      return ["Agents", <Agents filter={filter} />];
    case "tasks":
      if (a && b) return [cluster.tasks.get(taskKey(a, b))?.name ?? "Task", <TaskPage key={taskKey(a, b)} framework={a} task={b} />];
      return ["Tasks", <Tasks filter={filter} />];
    case "frameworks":
      if (a) return [(cluster.frameworks.get(a) ?? cluster.completed.get(a))?.framework_info.name ?? "Framework", <FrameworkPage key={a} id={a} />];
      return ["Frameworks", <Frameworks filter={filter} />];
    case "offers":
      return ["Offers", <Offers filter={filter} />];
    case "applications":
      return ["Applications", <Applications filter={filter} />];
    case "jobs":
      return ["Jobs", <Jobs filter={filter} />];
    case "plugins":
      return ["Plugins", <Plugins filter={filter} />];
    default:
      return ["Nothing here", <p class="empty">There is no such view. <a href="#/">Overview</a></p>];
  }
}

function Connection() {
  const { connection } = useCluster();
  const at = connection.since ? new Date(connection.since).toLocaleTimeString() : "";
  return (
    <div role="status" class="connection">
      {connection.state === "lost" && (
        <p class="banner">
          {`The connection to the master is lost since ${at} (${connection.why}). What you see is as of then.`}{" "}
          <button type="button" onClick={() => cluster.connect()}>Try now</button>
        </p>
      )}
    </div>
  );
}

function Page() {
  const place = usePlace();
  const { connection, version } = useCluster();
  const heading = useRef<HTMLHeadingElement>(null);
  const moved = useRef(false);
  const [title, content] = find(place);
  const here = place.path[0] ?? "overview";
  const where = place.path.join("/");
  useEffect(() => {
    document.title = `${title} – Gantry`;
  }, [title]);
  useEffect(() => { // a screen reader is to read the new page, and Tab to go on from its beginning
    if (moved.current) heading.current?.focus();
    moved.current = true;
    scrollTo(0, 0);
  }, [where]);
  return (
    <>
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); heading.current?.focus(); }}>Skip to the content</a>
      <header>
        <a class="brand" href="#/">Gantry</a>
        <nav aria-label="Views">
          {views.map((v) => <a key={v} href={v === "overview" ? "#/" : `#/${v}`} aria-current={v === here ? "page" : undefined}>{capital(v)}</a>)}
        </nav>
        <span class={`dot ${connection.state}`} title={connection.state === "live" ? "Connected: what you see is as it is now" : connection.state}>{connection.state}</span>
      </header>
      <Connection />
      <main id="main" class={connection.state === "lost" ? "stale" : undefined}>
        <h1 ref={heading} tabIndex={-1}><bdi>{title}</bdi></h1>
        {version === 0 && connection.state !== "live" ? <p class="empty">Connecting to the master…</p> : content}
      </main>
    </>
  );
}

cluster.start();
render(<Page />, document.body);
