package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// What requests may take of a server's memory, in bytes. A body is read, then decoded into
// what may be many times as large, then carried out; all of them together stay within these
// bounds, however many connections there are, and those that find no room wait for it. What
// is small does not wait behind what is large.
const (
	maxReading = 64 << 20 // bodies under way
	maxSmall   = 24 << 20 // messages of small bodies
	maxLarge   = 48 << 20 // messages of others
	maxMessage = 48 << 20 // one message

	smallBody = 16 << 10
	// worstFactor is how many times its body a message can be: of JSON, where "{}," makes an
	// empty message; protobuf is weighed.
	worstFactor = 100

	roomWithin = 10 * time.Second // a request that found no room until then is refused
)

// intake bounds the memory of requests.
type intake struct {
	reading, small, large *semaphore.Weighted
}

func newIntake() *intake {
	return &intake{semaphore.NewWeighted(maxReading), semaphore.NewWeighted(maxSmall), semaphore.NewWeighted(maxLarge)}
}

// room is what a request holds of an intake. The zero room holds nothing.
type room struct {
	mu    sync.Mutex
	of    *semaphore.Weighted
	bytes int64
}

// release gives the room back; it may be called again.
func (r *room) release() { r.shrink(0) }

// shrink gives back what is more than so many bytes.
func (r *room) shrink(bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if over := r.bytes - int64(bytes); over > 0 {
		r.bytes -= over
		r.of.Release(over)
	}
}

var noRoom = Reply{503, "Too many large requests at once: come again later, or send less at a time."}

// enter waits for room, or says that there is none.
func enter(ctx context.Context, of *semaphore.Weighted, bytes int) (*room, *Reply) {
	ctx, cancel := context.WithTimeout(ctx, roomWithin)
	defer cancel()
	if of.Acquire(ctx, int64(bytes)) != nil {
		return nil, &noRoom
	}
	return &room{of: of, bytes: int64(bytes)}, nil
}

// errNoRoom is the end of a body for which there was no room.
var errNoRoom = errors.New("no room for the body")

// arrival is a body that takes room as it arrives: one that is only announced takes none.
type arrival struct {
	io.Reader
	ctx   context.Context
	room  room
	bytes int64 // read
}

func (a *arrival) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	a.bytes += int64(n)
	if more := a.bytes - smallBody - a.room.bytes; more > 0 {
		ctx, cancel := context.WithTimeout(a.ctx, roomWithin)
		defer cancel()
		if a.room.of.Acquire(ctx, more) != nil {
			return 0, errNoRoom
		}
		a.room.bytes += more
	}
	return n, err
}

// read reads a body when there is room for it. The room is for the message that is made of
// it, and to be released when that is not needed any more.
func (in *intake) read(r *http.Request) ([]byte, *room, *Reply) {
	arriving := &arrival{Reader: r.Body, ctx: r.Context(), room: room{of: in.reading}}
	defer arriving.room.release()
	body, refused := readBody(arriving)
	if refused != nil {
		return nil, nil, refused
	}
	lane := in.large
	if len(body) <= smallBody {
		lane = in.small
	}
	decoding, refused := enter(r.Context(), lane, min(len(body)*worstFactor, maxMessage))
	return body, decoding, refused
}

// refusal is a Reply that is the same for every endpoint.
type refusal struct{ Reply }

func (r refusal) Error() string { return r.Message }

// decode reads a message; the room is that of the message as it turned out. The error is a
// refusal, or the codec's.
func (in *intake) decode(r *http.Request, c codec, m message) (*room, error) {
	body, taken, refused := in.read(r)
	if refused != nil {
		return nil, refusal{*refused}
	}
	memBytes, err := c.decode(body, m)
	if err != nil {
		taken.release()
		if errors.Is(err, errHeavy) {
			err = refusal{Reply{413, fmt.Sprintf("The message takes more than %d bytes of memory: send less at a time.", maxMessage)}}
		}
		return nil, err
	}
	taken.shrink(memBytes)
	return taken, nil
}
