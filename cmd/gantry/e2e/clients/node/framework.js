// A scheduler by mesos-framework, as its examples do it: two tasks, of which one ends by itself and the other is killed
// once it runs. Prints one line per step; the test reads them. Usage: framework.js HOST PORT LOGDIR
"use strict";

const { Scheduler, Mesos } = require("mesos-framework");
const { CommandInfo } = Mesos.getMesos();

const [host, port, logs] = process.argv.slice(2);

const task = (priority, command) => ({
    priority,
    commandInfo: new CommandInfo(null, null, true, command, null, null),
    resources: { cpus: 0.1, mem: 16, ports: 1, disk: 0 },
});

const scheduler = new Scheduler({
    masterUrl: host, // no ZooKeeper: a fixed master
    port,
    frameworkName: "node",
    masterConnectionTimeout: 60, // seconds; more than two heartbeats
    restartStates: [],
    logging: { path: logs, fileName: "node.log", level: "warn" },
    tasks: { ends: task(1, "echo from node"), lasts: task(2, "exec sleep 1000") },
});

const say = (...words) => console.log("step:", ...words);
const over = new Set();

scheduler.on("ready", () => scheduler.subscribe());
scheduler.on("subscribed", ({ frameworkId }) => say("subscribed", frameworkId));
let leaving = false; // then the end of the stream is what was asked for
scheduler.on("error", (problem) => leaving || say("error", (problem && problem.message) || problem));
scheduler.on("update", ({ status }) => {
    const name = status.task_id.value.split(".")[1]; // node.NAME-1.UUID
    say("update", name, status.state);
    if (name === "lasts-1" && status.state === "TASK_RUNNING") {
        scheduler.kill(status.task_id.value, status.agent_id.value);
    }
    if (status.state === "TASK_FINISHED" || status.state === "TASK_KILLED") {
        over.add(name);
    }
    if (over.size === 2) {
        over.clear();
        scheduler.once("sent_teardown", () => {
            say("done");
            process.exit(0);
        });
        setTimeout(() => { // the last acknowledgement is under way
            leaving = true;
            scheduler.teardown();
        }, 500);
    }
});
