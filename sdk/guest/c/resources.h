/*
 * resources.h is arithmetic on resources (gantry.resource.v1) for allocators in C. A bag
 * is a list with each kind at most once:
 *
 *     struct resource *rest = NULL;
 *     bag_add(&rest, agent->total);
 *     bag_subtract(&rest, agent->held);
 *     ...
 *     bag_drop(&rest);
 *
 * Amounts are exact: scalars in thousandths, ranges with both ends included. Resources
 * that are sets are left out.
 */
#ifndef GANTRY_RESOURCES_H
#define GANTRY_RESOURCES_H

#include "gantry.h"

/* Spans are ascending, disjoint and not adjacent. */
struct span {
	struct span *next;
	uint64_t begin, end;
};

/* What makes a kind is everything but the amounts. */
struct resource {
	struct resource *next;
	struct text name, reservation, disk;
	bool revocable, shared;
	int64_t milli;
	struct span *spans;
};

static inline void span_insert(struct span **at, uint64_t begin, uint64_t end)
{
	struct span *s = make(struct span);
	*s = (struct span){*at, begin, end};
	*at = s;
}

static inline void span_remove(struct span **at)
{
	struct span *s = *at;
	*at = s->next;
	drop(s, sizeof *s);
}

static inline void spans_add(struct span **at, uint64_t begin, uint64_t end)
{
	while (*at && (*at)->end < begin && begin - (*at)->end > 1)
		at = &(*at)->next;
	while (*at && ((*at)->begin <= end || (*at)->begin - end == 1)) { /* it overlaps or touches */
		begin = (*at)->begin < begin ? (*at)->begin : begin;
		end = (*at)->end > end ? (*at)->end : end;
		span_remove(at);
	}
	span_insert(at, begin, end);
}

static inline void spans_subtract(struct span **at, uint64_t begin, uint64_t end)
{
	while (*at && (*at)->begin <= end) {
		struct span *s = *at;
		if (s->end < begin) {
			at = &s->next;
			continue;
		}
		struct span was = *s;
		span_remove(at);
		if (was.end > end)
			span_insert(at, end + 1, was.end);
		if (was.begin < begin) {
			span_insert(at, was.begin, begin - 1);
			at = &(*at)->next;
		}
		if (was.end > end)
			return;
	}
}

static inline bool same_kind(const struct resource *a, const struct resource *b)
{
	return text_equal(a->name, b->name) && text_equal(a->reservation, b->reservation) &&
	       text_equal(a->disk, b->disk) && a->revocable == b->revocable && a->shared == b->shared;
}

static inline void resource_remove(struct resource **at)
{
	struct resource *r = *at;
	*at = r->next;
	while (r->spans)
		span_remove(&r->spans);
	forget(r->name);
	forget(r->reservation);
	forget(r->disk);
	drop(r, sizeof *r);
}

static inline void bag_drop(struct resource **bag)
{
	while (*bag)
		resource_remove(bag);
}

/* bag_find returns where like's kind is, or where it would be put: at the end. */
static inline struct resource **bag_find(struct resource **bag, const struct resource *like)
{
	while (*bag && !same_kind(*bag, like))
		bag = &(*bag)->next;
	return bag;
}

/* bag_add adds a list to a bag. */
static inline void bag_add(struct resource **bag, const struct resource *list)
{
	for (; list; list = list->next) {
		struct resource **at = bag_find(bag, list);
		if (!*at) {
			struct resource *new = make(struct resource);
			*new = (struct resource){
			    .name = keep(list->name), .reservation = keep(list->reservation), .disk = keep(list->disk),
			    .revocable = list->revocable, .shared = list->shared};
			*at = new;
		}
		(*at)->milli += list->milli;
		for (const struct span *s = list->spans; s; s = s->next)
			spans_add(&(*at)->spans, s->begin, s->end);
	}
}

/* bag_subtract takes a list out of a bag, as far as it is there. */
static inline void bag_subtract(struct resource **bag, const struct resource *list)
{
	for (; list; list = list->next) {
		struct resource **at = bag_find(bag, list);
		if (!*at)
			continue;
		(*at)->milli = (*at)->milli > list->milli ? (*at)->milli - list->milli : 0;
		for (const struct span *s = list->spans; s; s = s->next)
			spans_subtract(&(*at)->spans, s->begin, s->end);
		if (!(*at)->milli && !(*at)->spans)
			resource_remove(at);
	}
}

/* bag_read adds a Resource message to a bag. */
static inline void bag_read(struct resource **bag, struct reader message)
{
	struct resource r = {0};
	struct field f;
	while (next_field(&message, &f)) {
		switch (f.number) {
		case 1: r.name = f.text; break;
		case 2: r.reservation = f.text; break;
		case 3: r.disk = f.text; break;
		case 4: r.revocable = f.value; break;
		case 5: r.shared = f.value; break;
		case 6: r.milli = (int64_t)f.value; break;
		case 7: spans_add(&r.spans, uint_in(inside(&f), 1), uint_in(inside(&f), 2)); break;
		}
	}
	if (r.milli > 0 || r.spans)
		bag_add(bag, &r);
	while (r.spans)
		span_remove(&r.spans);
}

/* bag_write writes a bag as a repeated field of Resource messages. */
static inline void bag_write(struct writer *w, uint32_t number, const struct resource *r)
{
	for (; r; r = r->next) {
		uint32_t message = write_begin(w, number);
		write_text(w, 1, r->name);
		write_text(w, 2, r->reservation);
		write_text(w, 3, r->disk);
		write_uint(w, 4, r->revocable);
		write_uint(w, 5, r->shared);
		write_uint(w, 6, (uint64_t)r->milli);
		for (const struct span *s = r->spans; s; s = s->next) {
			uint32_t range = write_begin(w, 7);
			write_uint(w, 1, s->begin);
			write_uint(w, 2, s->end);
			write_end(w, range);
		}
		write_end(w, message);
	}
}

#endif
