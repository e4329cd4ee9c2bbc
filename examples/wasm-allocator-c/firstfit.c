/*
 * firstfit is an allocator for Gantry as a WASM module: it offers everything that is free
 * on an agent to whoever is first in line, and who was served goes to the back. README.md
 * says how to build and run it, sdk/guest/ABI.md what it speaks; the numbers of fields are
 * those of gantry/allocator/v1/allocator.proto.
 */
#include "gantry.h"
#include "resources.h"

#define NEVER INT64_MAX

/* How long an agent is left alone after a grant of it was rejected, in nanoseconds: what
 * explains the rejection is on its way. */
#define REJECTION_PAUSE 1000000000LL

/* The least that is worth an offer, in thousandths: a hundredth of a CPU, or 32 MB. */
enum { LEAST_CPUS = 10, LEAST_MEM = 32 * 1000 };

enum { GPU_RESOURCES = 3 }; /* of mesos.v1.FrameworkInfo.Capability.Type */

struct framework {
	struct entry entry; /* by id */
	struct framework *next;
	bool gpus;         /* it may be offered agents with GPUs */
	uint64_t snapshot; /* the last one that named it */
};

/* A framework has a seat for each of its roles. Who was served last sits last. */
struct seat {
	struct seat *next;
	struct framework *framework;
	struct text role;
	bool wants;        /* it is active and not suppressed */
	uint32_t refusals; /* how many there are of it */
	bool kept;         /* scratch: the framework still has this role */
	uint64_t barred;   /* scratch: the look in which a refusal of it stands */
};

/* A refusal is for the whole agent, whatever part of it was refused. */
struct refusal {
	struct refusal *next;
	struct seat *seat;
	int64_t until;
};

struct agent {
	struct entry entry; /* by id */
	struct agent *next;
	struct resource *total, *held;
	struct refusal *refusals;
	bool deactivated;
	int64_t paused;    /* it is offered to nobody before then */
	int64_t look;      /* nothing changes for it before then */
	uint64_t snapshot; /* the last one that named it */
};

/* A grant waits for its verdict; verdicts come in the order of grants. */
struct grant {
	struct grant *next;
	uint64_t id;
	struct text agent;
	struct resource *resources;
	bool charged; /* counted as held; a snapshot ends that until the verdict */
};

static int64_t now;
static bool eager; /* somebody came into line: every agent is to be looked at */
static uint64_t snapshots, looks, granted;
static struct table agents, frameworks;
static struct agent *first_agent;
static struct framework *first_framework;
static struct seat *first_seat;
static struct grant *first_grant;
static struct writer grants;

/* ---- agents ---- */

static void touch(struct agent *a) { a->look = a->paused; }

static void refusal_remove(struct refusal **at)
{
	struct refusal *r = *at;
	*at = r->next;
	r->seat->refusals--;
	drop(r, sizeof *r);
}

static void agent_remove(struct agent *a)
{
	struct agent **at = &first_agent;
	while (*at != a)
		at = &(*at)->next;
	*at = a->next;
	table_remove(&agents, &a->entry);
	while (a->refusals)
		refusal_remove(&a->refusals);
	bag_drop(&a->total);
	bag_drop(&a->held);
	forget(a->entry.key);
	drop(a, sizeof *a);
}

/* on_agent hears of an agent, new or changed. Holdings replace what is known; none leave it. */
static void on_agent(struct reader message)
{
	struct text id = text_in(message, 1);
	struct agent *a = table_find(&agents, id);
	if (!a) {
		a = make(struct agent);
		a->entry.key = keep(id);
		a->next = first_agent;
		first_agent = a;
		table_put(&agents, &a->entry);
	}
	a->snapshot = snapshots;
	a->deactivated = uint_in(message, 7);
	bag_drop(&a->total);
	if (field_in(message, 4).number)
		bag_drop(&a->held);
	struct field f, part;
	while (next_field(&message, &f)) {
		if (f.number == 3)
			bag_read(&a->total, inside(&f));
		if (f.number == 4)
			for (struct reader holding = inside(&f); next_field(&holding, &part);)
				if (part.number == 4)
					bag_read(&a->held, inside(&part));
	}
	touch(a);
}

/* ---- frameworks and their seats ---- */

static struct seat **seat_find(const struct framework *fw, struct text role)
{
	struct seat **at = &first_seat;
	while (*at && ((*at)->framework != fw || !text_equal((*at)->role, role)))
		at = &(*at)->next;
	return at;
}

/* seat_forgive voids what a seat has refused, anywhere. */
static void seat_forgive(const struct seat *s)
{
	for (struct agent *a = first_agent; a && s->refusals; a = a->next)
		for (struct refusal **at = &a->refusals; *at;)
			if ((*at)->seat == s)
				refusal_remove(at);
			else
				at = &(*at)->next;
}

/* seat_eager hears that a seat has come into line. */
static void seat_eager(const struct seat *s)
{
	seat_forgive(s);
	eager = true;
}

static void seat_remove(struct seat **at)
{
	struct seat *s = *at;
	*at = s->next;
	seat_forgive(s);
	forget(s->role);
	drop(s, sizeof *s);
}

/* framework_unseat takes away the seats of a framework that are not kept. */
static void framework_unseat(const struct framework *fw)
{
	for (struct seat **at = &first_seat; *at;)
		if ((*at)->framework == fw && !(*at)->kept)
			seat_remove(at);
		else
			at = &(*at)->next;
}

static void framework_remove(struct framework *fw)
{
	for (struct seat *s = first_seat; s; s = s->next)
		s->kept = false;
	framework_unseat(fw);
	struct framework **at = &first_framework;
	while (*at != fw)
		at = &(*at)->next;
	*at = fw->next;
	table_remove(&frameworks, &fw->entry);
	forget(fw->entry.key);
	drop(fw, sizeof *fw);
}

static bool suppressed(struct reader message, struct text role)
{
	for (struct field f; next_field(&message, &f);)
		if (f.number == 3 && text_equal(f.text, role))
			return true;
	return false;
}

/* on_framework hears of a framework, new or changed. */
static void on_framework(struct reader message)
{
	struct text id = text_in(message, 1);
	struct framework *fw = table_find(&frameworks, id);
	if (!fw) {
		fw = make(struct framework);
		fw->entry.key = keep(id);
		fw->next = first_framework;
		first_framework = fw;
		table_put(&frameworks, &fw->entry);
	}
	fw->snapshot = snapshots;
	bool active = uint_in(message, 4), had_gpus = fw->gpus;
	fw->gpus = false;
	for (struct seat *s = first_seat; s; s = s->next)
		s->kept = false;
	struct field f;
	for (struct reader r = message; next_field(&r, &f);)
		if (f.number == 5 && uint_in(inside(&f), 1) == GPU_RESOURCES)
			fw->gpus = true;
	for (struct reader r = message; next_field(&r, &f);) {
		if (f.number != 2)
			continue;
		struct seat **at = seat_find(fw, f.text), *s = *at;
		if (!s) {
			*at = s = make(struct seat);
			s->framework = fw;
			s->role = keep(f.text);
		}
		s->kept = true;
		bool wanted = s->wants;
		s->wants = active && !suppressed(message, f.text);
		if (s->wants && (!wanted || (fw->gpus && !had_gpus)))
			seat_eager(s);
	}
	framework_unseat(fw);
}

/* on_revived hears that a framework takes back its refusals in some roles. */
static void on_revived(struct reader message)
{
	const struct framework *fw = table_find(&frameworks, text_in(message, 1));
	for (struct field f; fw && next_field(&message, &f);) {
		struct seat *s = f.number == 2 ? *seat_find(fw, f.text) : NULL;
		if (s)
			seat_eager(s);
	}
}

/* ---- holdings ---- */

/* A holding has agent_id = 1, framework_id = 2, role = 3, resources = 4. */
static void holding_resources(struct reader holding, struct resource **bag)
{
	for (struct field f; next_field(&holding, &f);)
		if (f.number == 4)
			bag_read(bag, inside(&f));
}

/* on_charged hears that a framework got resources other than from us. */
static void on_charged(struct reader holding)
{
	struct agent *a = table_find(&agents, text_in(holding, 1));
	if (a)
		holding_resources(holding, &a->held);
}

/* on_recovered hears that resources came free, perhaps because they were refused. */
static void on_recovered(struct reader message)
{
	struct field f = field_in(message, 1);
	struct reader holding = inside(&f);
	struct agent *a = table_find(&agents, text_in(holding, 1));
	if (!a)
		return;
	struct resource *back = NULL;
	holding_resources(holding, &back);
	bag_subtract(&a->held, back);
	bag_drop(&back);
	touch(a);

	int64_t refused = (int64_t)uint_in(message, 2);
	const struct framework *fw = table_find(&frameworks, text_in(holding, 2));
	struct seat *s = fw ? *seat_find(fw, text_in(holding, 3)) : NULL;
	if (refused <= 0 || !s)
		return;
	struct refusal *r = make(struct refusal);
	*r = (struct refusal){a->refusals, s, refused < NEVER - now ? now + refused : NEVER};
	a->refusals = r;
	s->refusals++;
}

static struct grant grant_pop(void)
{
	struct grant g = *first_grant;
	drop(first_grant, sizeof g);
	first_grant = g.next;
	return g;
}

/* on_verdict hears what became of a grant. What is older went unanswered before a snapshot. */
static void on_verdict(struct reader message)
{
	uint64_t id = uint_in(message, 1);
	bool applied = !uint_in(message, 2);
	while (first_grant && first_grant->id <= id) {
		struct grant g = grant_pop();
		struct agent *a = table_find(&agents, g.agent);
		if (a && g.id == id && applied && !g.charged)
			bag_add(&a->held, g.resources);
		if (a && g.id == id && !applied) {
			if (g.charged)
				bag_subtract(&a->held, g.resources);
			a->paused = now + REJECTION_PAUSE;
			touch(a);
		}
		bag_drop(&g.resources);
		forget(g.agent);
	}
}

/* ---- looking for what to offer ---- */

/* left_over is what can be offered of an agent: reserved, shared and revocable resources
 * can't, to keep this short. */
static struct resource *left_over(const struct agent *a, bool *worth)
{
	struct resource *rest = NULL;
	bag_add(&rest, a->total);
	bag_subtract(&rest, a->held);
	*worth = false;
	for (struct resource **at = &rest; *at;) {
		const struct resource *r = *at;
		if (r->reservation.len || r->shared || r->revocable) {
			resource_remove(at);
			continue;
		}
		if (text_equal(r->name, text_of("cpus")) && r->milli >= LEAST_CPUS)
			*worth = true;
		if (text_equal(r->name, text_of("mem")) && r->milli >= LEAST_MEM)
			*worth = true;
		at = &(*at)->next;
	}
	return rest;
}

static bool has_gpus(const struct agent *a)
{
	for (const struct resource *r = a->total; r; r = r->next)
		if (text_equal(r->name, text_of("gpus")))
			return true;
	return false;
}

/* first_in_line returns who may be offered an agent, and has it looked at again when the
 * next refusal ends. */
static struct seat **first_in_line(struct agent *a)
{
	bool gpus = has_gpus(a);
	looks++;
	for (struct refusal **at = &a->refusals; *at;) {
		struct refusal *r = *at;
		if (r->until <= now) {
			refusal_remove(at);
			continue;
		}
		r->seat->barred = looks;
		a->look = r->until < a->look ? r->until : a->look;
		at = &r->next;
	}
	struct seat **at = &first_seat;
	while (*at && (!(*at)->wants || (*at)->barred == looks || (gpus && !(*at)->framework->gpus)))
		at = &(*at)->next;
	return at;
}

/* served moves a seat to the back. */
static void served(struct seat **at)
{
	struct seat *s = *at;
	*at = s->next;
	s->next = NULL;
	while (*at)
		at = &(*at)->next;
	*at = s;
}

/* propose writes a grant of rest, which it keeps for the verdict. */
static void propose(struct agent *a, const struct seat *s, struct resource *rest)
{
	static struct grant *last; /* of the list, unless that is empty */
	struct grant *g = make(struct grant);
	*g = (struct grant){.id = ++granted, .agent = keep(a->entry.key), .resources = rest, .charged = true};
	*(first_grant ? &last->next : &first_grant) = g;
	last = g;
	bag_add(&a->held, rest);

	uint32_t message = write_begin(&grants, 3);
	write_uint(&grants, 1, g->id);
	write_text(&grants, 2, a->entry.key);
	write_text(&grants, 3, s->framework->entry.key);
	write_text(&grants, 4, s->role);
	bag_write(&grants, 5, rest);
	write_end(&grants, message);
}

static void look(struct agent *a)
{
	bool worth;
	struct resource *rest = left_over(a, &worth);
	a->look = NEVER;
	struct seat **at = worth && !a->deactivated ? first_in_line(a) : NULL;
	if (!at || !*at) {
		bag_drop(&rest);
		return;
	}
	propose(a, *at, rest);
	served(at);
}

/* ---- messages ---- */

/* on_snapshot replaces all that is known but refusals and the numbers of grants. */
static void on_snapshot(struct reader message)
{
	snapshots++;
	for (struct agent *a = first_agent; a; a = a->next)
		bag_drop(&a->held);
	for (struct grant *g = first_grant; g; g = g->next)
		g->charged = false;
	for (struct field f; next_field(&message, &f);) {
		if (f.number == 1)
			on_agent(inside(&f));
		if (f.number == 2)
			on_framework(inside(&f));
	}
	for (struct agent *a = first_agent, *next; a; a = next) {
		next = a->next;
		if (a->snapshot != snapshots)
			agent_remove(a);
	}
	for (struct framework *fw = first_framework, *next; fw; fw = next) {
		next = fw->next;
		if (fw->snapshot != snapshots)
			framework_remove(fw);
	}
}

static void on_delta(struct reader delta)
{
	struct field f;
	if (!next_field(&delta, &f))
		return;
	switch (f.number) {
	case 1: on_agent(inside(&f)); break;
	case 2: {
		struct agent *a = table_find(&agents, f.text);
		if (a)
			agent_remove(a);
		break;
	}
	case 3: on_framework(inside(&f)); break;
	case 4: {
		struct framework *fw = table_find(&frameworks, f.text);
		if (fw)
			framework_remove(fw);
		break;
	}
	case 6: on_charged(inside(&f)); break;
	case 7: on_recovered(inside(&f)); break;
	case 8: on_revived(inside(&f)); break;
	case 9: on_verdict(inside(&f)); break;
	}
}

int64_t gantry_allocator_step(const uint8_t *message, uint32_t length)
{
	struct reader fields = reader_of(message, length);
	int64_t clock = (int64_t)uint_in(fields, 3);
	now = clock > now ? clock : now;
	struct field snapshot = field_in(fields, 4), deltas = field_in(fields, 5);
	if (snapshot.number) {
		struct text config = text_in(inside(&snapshot), 4);
		if (config.len && !text_equal(config, text_of("{}")))
			return refuse("firstfit has nothing to configure; remove its table config");
		on_snapshot(inside(&snapshot));
	}
	struct field delta;
	for (struct reader r = inside(&deltas); next_field(&r, &delta);)
		on_delta(inside(&delta));

	writer_clear(&grants);
	for (struct agent *a = first_agent; a; a = a->next)
		if (a->look <= now || (eager && a->paused <= now))
			look(a);
	eager = false;
	return answer(&grants);
}
