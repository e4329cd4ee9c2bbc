/*
 * gantry.h is what a WASM plugin of Gantry needs in C: the ABI (../ABI.md), memory, text,
 * a table, and protobuf to read and write. It needs no libc. Include it in one file, and
 * write
 *
 *     int64_t gantry_allocator_step(const uint8_t *message, uint32_t length)
 *     {
 *         struct reader fields = reader_of(message, length);
 *         ...
 *         return answer(&grants);       or  return refuse("a sentence that says why");
 *     }
 *
 * and compile it with
 *
 *     clang --target=wasm32 -O2 -ffreestanding -nostdlib -mbulk-memory -msign-ext \
 *         -Wl,--no-entry -Wl,--stack-first -o plugin.wasm plugin.c
 *
 * A plugin has one thread and lives as long as it answers. What can't go on calls fail():
 * the kernel starts a new instance and tells it everything again.
 */
#ifndef GANTRY_H
#define GANTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- text: bytes that belong to somebody else ---- */

struct text {
	const uint8_t *at;
	uint32_t len;
};

/* text_of is the text of a string literal. */
#define text_of(literal) ((struct text){(const uint8_t *)(literal), sizeof(literal) - 1})

static inline bool text_equal(struct text a, struct text b)
{
	if (a.len != b.len)
		return false;
	for (uint32_t i = 0; i < a.len; i++)
		if (a.at[i] != b.at[i])
			return false;
	return true;
}

/* ---- the ABI ---- */

/* The marker by which the host knows what this module speaks. */
__attribute__((export_name("gantry_abi_1"))) void gantry_abi_1(void) {}

/* A message comes in; the answer goes out. It is yours to write. */
__attribute__((export_name("gantry_allocator_step"))) int64_t
gantry_allocator_step(const uint8_t *message, uint32_t length);

__attribute__((import_module("gantry"), import_name("log"))) void
gantry_log(uint32_t level, const uint8_t *at, uint32_t length);

enum { DEBUG = 0, INFO = 1, WARNING = 2, ERROR = 3 };

/* say writes a line to the master's log, under the plugin's name. */
#define say(level, literal) gantry_log(level, text_of(literal).at, text_of(literal).len)

/* fail ends this instance, with its reason in the log. */
#define fail(literal) (say(ERROR, literal), __builtin_trap())

/* refuse ends the conversation with a sentence for the operator: return it from step. */
#define refuse(literal) ((int64_t)(((uint64_t)(uintptr_t)(literal) << 32) | (sizeof(literal) - 1) | 1u << 31))

/* ---- memory: blocks of 2^n bytes, kept by size for the next who wants one ---- */

struct spare {
	struct spare *next;
};

extern uint8_t __heap_base; /* the linker's: where free memory begins */
static uint8_t *heap_top = &__heap_base;
static struct spare *spares[32];

static inline uint32_t block_class(uint32_t size)
{
	return size <= 16 ? 4 : 32 - (uint32_t)__builtin_clz(size - 1);
}

/* try_block returns size bytes of anything, or NULL when there is no more memory. */
static inline void *try_block(uint32_t size)
{
	uint32_t class = block_class(size);
	if (class > 30)
		return NULL;
	struct spare *s = spares[class];
	if (s) {
		spares[class] = s->next;
		return s;
	}
	enum { PAGE = 64 << 10, STEP = 16 }; /* grow by a megabyte, so as not to grow often */
	uint64_t end = (uint64_t)(uintptr_t)heap_top + (1u << class);
	uint64_t have = (uint64_t)__builtin_wasm_memory_size(0) * PAGE;
	if (end > have) {
		uint32_t need = (uint32_t)((end - have + PAGE - 1) / PAGE);
		uint32_t want = need < STEP ? STEP : need;
		if (__builtin_wasm_memory_grow(0, want) == SIZE_MAX && __builtin_wasm_memory_grow(0, need) == SIZE_MAX)
			return NULL;
	}
	void *block = heap_top;
	heap_top += 1u << class;
	return block;
}

/* block returns size bytes of zeros. */
static inline void *block(uint32_t size)
{
	void *b = try_block(size);
	if (!b)
		fail("out of memory; see module_memory_mb in plugins.toml");
	__builtin_memset(b, 0, size);
	return b;
}

/* drop gives a block of that size back; NULL is nothing. */
static inline void drop(void *b, uint32_t size)
{
	if (!b)
		return;
	struct spare *s = b;
	uint32_t class = block_class(size);
	s->next = spares[class];
	spares[class] = s;
}

/* make returns a zeroed struct; drop(it, sizeof *it) gives it back. */
#define make(type) ((type *)block(sizeof(type)))

/* keep copies a text, which else ends with its message; forget gives the copy back. */
static inline struct text keep(struct text t)
{
	if (!t.len)
		return t;
	uint8_t *copy = block(t.len);
	__builtin_memcpy(copy, t.at, t.len);
	return (struct text){copy, t.len};
}

static inline void forget(struct text t)
{
	if (t.len)
		drop((void *)t.at, t.len);
}

/* The host asks for room for each message; a message is over when the next one comes. */
static uint8_t *inbox;
static uint32_t inbox_size;

__attribute__((export_name("gantry_alloc"))) uint8_t *gantry_alloc(uint32_t size)
{
	if (!inbox || size > inbox_size) {
		drop(inbox, inbox_size);
		inbox_size = size;
		inbox = try_block(size);
	}
	return inbox;
}

/* ---- table: finds things by a text; an entry is the first member of what is kept ---- */

struct entry {
	struct entry *chain;
	struct text key; /* kept by whoever made the entry */
};

struct table {
	struct entry **slots;
	uint32_t size, count;
};

static inline struct entry **table_slot(const struct table *t, struct text key)
{
	uint32_t hash = 2166136261u; /* FNV-1a */
	for (uint32_t i = 0; i < key.len; i++)
		hash = (hash ^ key.at[i]) * 16777619u;
	return &t->slots[hash & (t->size - 1)];
}

/* table_find returns what has that key, or NULL. */
static inline void *table_find(const struct table *t, struct text key)
{
	if (!t->size)
		return NULL;
	struct entry *e = *table_slot(t, key);
	while (e && !text_equal(e->key, key))
		e = e->chain;
	return e;
}

/* table_put adds an entry whose key is not there yet. */
static inline void table_put(struct table *t, struct entry *e)
{
	if (t->count >= t->size) {
		struct table larger = {.size = t->size ? 2 * t->size : 64};
		larger.slots = block(larger.size * sizeof(struct entry *));
		for (uint32_t i = 0; i < t->size; i++)
			for (struct entry *old = t->slots[i], *next; old; old = next) {
				next = old->chain;
				table_put(&larger, old);
			}
		drop(t->slots, t->size * sizeof(struct entry *));
		*t = larger;
	}
	struct entry **slot = table_slot(t, e->key);
	e->chain = *slot;
	*slot = e;
	t->count++;
}

/* table_remove takes an entry out that is there. */
static inline void table_remove(struct table *t, struct entry *e)
{
	struct entry **at = table_slot(t, e->key);
	while (*at != e)
		at = &(*at)->chain;
	*at = e->chain;
	t->count--;
}

/* ---- reading protobuf: field by field, in the order of the message ---- */

struct reader {
	const uint8_t *at, *end;
};

struct field {
	uint32_t number;
	uint64_t value;   /* of integers, booleans and enums */
	struct text text; /* of strings, bytes and messages; it ends with the message */
};

static inline struct reader reader_of(const uint8_t *at, uint32_t length)
{
	return (struct reader){at, at + length};
}

/* inside reads the message that a field holds. */
static inline struct reader inside(const struct field *f)
{
	return reader_of(f->text.at, f->text.len);
}

static inline uint64_t read_varint(struct reader *r)
{
	uint64_t value = 0;
	for (uint32_t shift = 0; shift < 64 && r->at < r->end; shift += 7) {
		uint8_t byte = *r->at++;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			return value;
	}
	fail("a message that is no protobuf");
}

/* next_field reads a field; false means that there are no more. */
static inline bool next_field(struct reader *r, struct field *f)
{
	if (r->at == r->end)
		return false;
	uint64_t tag = read_varint(r), length = 0;
	*f = (struct field){.number = (uint32_t)(tag >> 3)};
	switch (tag & 7) {
	case 0:
		f->value = read_varint(r);
		return true;
	case 1:
		length = 8; /* fixed64 and double: there as text */
		break;
	case 2:
		length = read_varint(r);
		break;
	case 5:
		length = 4;
		break;
	default:
		fail("a message that is no protobuf");
	}
	if (length > (uint64_t)(r->end - r->at))
		fail("a message that is cut short");
	f->text = (struct text){r->at, (uint32_t)length};
	r->at += length;
	return true;
}

/* text_in and uint_in look for one field of a message: empty or zero when it is not there. */
static inline struct field field_in(struct reader message, uint32_t number)
{
	struct field f, found = {0};
	while (next_field(&message, &f))
		if (f.number == number)
			found = f; /* the last one counts */
	return found;
}

static inline struct text text_in(struct reader message, uint32_t number)
{
	return field_in(message, number).text;
}

static inline uint64_t uint_in(struct reader message, uint32_t number)
{
	return field_in(message, number).value;
}

/* ---- writing protobuf ---- */

/* A writer is reused: writer_clear before each answer. */
struct writer {
	uint8_t *at;
	uint32_t len, size;
};

static inline void writer_clear(struct writer *w) { w->len = 0; }

/* writer_room returns where the next count bytes go. */
static inline uint8_t *writer_room(struct writer *w, uint32_t count)
{
	if (w->size - w->len < count) {
		struct writer larger = {.len = w->len, .size = 1u << block_class(w->len + count)};
		larger.at = block(larger.size);
		__builtin_memcpy(larger.at, w->at, w->len);
		drop(w->at, w->size);
		*w = larger;
	}
	uint8_t *room = w->at + w->len;
	w->len += count;
	return room;
}

static inline void write_varint(struct writer *w, uint64_t value)
{
	for (; value >= 0x80; value >>= 7)
		*writer_room(w, 1) = (uint8_t)value | 0x80;
	*writer_room(w, 1) = (uint8_t)value;
}

/* write_uint writes an integer, boolean or enum; zero is the default, and left out. */
static inline void write_uint(struct writer *w, uint32_t number, uint64_t value)
{
	if (!value)
		return;
	write_varint(w, number << 3);
	write_varint(w, value);
}

/* write_text writes a string or bytes; empty is the default, and left out. */
static inline void write_text(struct writer *w, uint32_t number, struct text t)
{
	if (!t.len)
		return;
	write_varint(w, number << 3 | 2);
	write_varint(w, t.len);
	__builtin_memcpy(writer_room(w, t.len), t.at, t.len);
}

/* write_begin opens a message within the message; write_end closes it, given what
 * write_begin returned. */
static inline uint32_t write_begin(struct writer *w, uint32_t number)
{
	write_varint(w, number << 3 | 2);
	writer_room(w, 5); /* the length, once it is known */
	return w->len;
}

static inline void write_end(struct writer *w, uint32_t begin)
{
	uint32_t length = w->len - begin;
	uint8_t *at = w->at + begin - 5;
	for (int i = 0; i < 4; i++, length >>= 7)
		at[i] = (uint8_t)length | 0x80;
	at[4] = (uint8_t)length;
}

/* answer makes step's result of what was written. */
static inline int64_t answer(const struct writer *w)
{
	return (int64_t)((uint64_t)(uintptr_t)w->at << 32 | w->len);
}

#endif
