package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"
)

// Bounds of what comes out of a module.
const (
	maxAnswerBytes = 16 << 20
	maxErrorBytes  = 1 << 10
	maxTrapBytes   = 400 // of the description, which has a line for each frame
	maxLineBytes   = 4 << 10
	logBytes       = 64 << 10 // in one call
)

// failed is the bit of a result's length that makes an error of it.
const failed = 1 << 31

// instance is a module with a memory, for one conversation. After an error it is of no use.
type instance struct {
	*module
	code        api.Module
	alloc, take api.Function
	diary       *diary
}

// instantiate makes an instance that has heard of nothing.
func (m *module) instantiate(ctx context.Context) (*instance, error) {
	i := &instance{module: m, diary: &diary{out: m.log, left: logBytes}}
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions("_initialize").
		WithStdout(i.diary).WithStderr(i.diary)
	m.heap.module.Lock()
	defer m.heap.module.Unlock()
	defer m.watch("start")()
	var err error
	if i.code, err = m.runtime.InstantiateModule(withDiary(ctx, i.diary), m.compiled, config); err != nil {
		return nil, fmt.Errorf("start the module: %w", explain(err))
	}
	i.alloc, i.take = i.code.ExportedFunction(allocName), i.code.ExportedFunction(stepName)
	return i, nil
}

// close gives the memory back.
func (i *instance) close() { _ = i.code.Close(context.Background()) } // there are no files to fail

// step has the module take a message and returns its answer, which is good until the next
// step.
func (i *instance) step(ctx context.Context, message []byte) ([]byte, error) {
	i.heap.module.Lock()
	defer i.heap.module.Unlock()
	defer i.watch(fmt.Sprintf("take a message of %d bytes", len(message)))()
	i.diary.left = logBytes
	defer i.diary.close()
	ctx = withDiary(ctx, i.diary)
	at, err := i.call(ctx, i.alloc, uint64(len(message)))
	if err != nil {
		return nil, err
	}
	memory := i.code.Memory()
	if uint32(at) == 0 {
		return nil, fmt.Errorf("the module has no memory left for a message of %d bytes; it has %d MB of %d (module_memory_mb)",
			len(message), memory.Size()>>20, i.memoryMB)
	}
	if !memory.Write(uint32(at), message) {
		return nil, fmt.Errorf("the module wants a message of %d bytes at %#x, and its memory ends at %#x", len(message), uint32(at), memory.Size())
	}
	result, err := i.call(ctx, i.take, at, uint64(len(message)))
	if err != nil {
		return nil, err
	}
	return i.read(result)
}

// read finds the bytes that a result of the module means.
func (i *instance) read(result uint64) ([]byte, error) {
	memory := i.code.Memory()
	at, length := uint32(result>>32), uint32(result)
	refused := length&failed != 0
	length &^= failed
	if length > maxAnswerBytes {
		return nil, fmt.Errorf("the module answers with %d bytes; at most %d are allowed", length, maxAnswerBytes)
	}
	answer, ok := memory.Read(at, length)
	if !ok {
		return nil, fmt.Errorf("the module answers with %d bytes at %#x, and its memory ends at %#x", length, at, memory.Size())
	}
	if refused {
		return nil, refusal(answer[:min(len(answer), maxErrorBytes)])
	}
	return answer, nil
}

// refusal is an error in the module's own words.
type refusal string

func (r refusal) Error() string {
	return "the module says: " + strings.ToValidUTF8(string(r), "?")
}

// call calls a function of the module that has one result.
func (i *instance) call(ctx context.Context, f api.Function, args ...uint64) (uint64, error) {
	results, err := f.Call(ctx, args...)
	if err != nil {
		return 0, explain(err)
	}
	return results[0], nil
}

// explain makes a line of how the module ended.
func explain(err error) error {
	if exit, ok := errors.AsType[*sys.ExitError](err); ok {
		return fmt.Errorf("the module ended itself with status %d", exit.ExitCode())
	}
	text := strings.Join(strings.Fields(err.Error()), " ")
	return fmt.Errorf("the module failed: %s", text[:min(len(text), maxTrapBytes)])
}

// diary is what a module says beside its answers.
type diary struct {
	out     io.Writer
	left    int // bytes that may be said in this call
	dropped int
}

// Write is for what a language's runtime has to say when it dies.
func (d *diary) Write(text []byte) (int, error) {
	said := text[:min(len(text), d.left)]
	d.left -= len(said)
	d.dropped += len(text) - len(said)
	if _, err := d.out.Write(said); err != nil {
		return 0, err
	}
	return len(text), nil
}

// close tells of what was dropped.
func (d *diary) close() {
	if d.dropped > 0 {
		fmt.Fprintf(d.out, "%d bytes that the module logged were dropped\n", d.dropped)
		d.dropped = 0
	}
}

type diaryKey struct{}

func withDiary(ctx context.Context, d *diary) context.Context {
	return context.WithValue(ctx, diaryKey{}, d)
}

// levels of gantry.log; 1, the usual one, needs no word.
var levels = map[uint32]string{0: "debug: ", 2: "warning: ", 3: "error: "}

// guestLogs is gantry.log(level, ptr, len). A panic in it is a trap in the module.
func guestLogs(ctx context.Context, m api.Module, stack []uint64) {
	level, at, length := uint32(stack[0]), uint32(stack[1]), uint32(stack[2])
	text, ok := m.Memory().Read(at, length)
	if !ok {
		panic(fmt.Errorf("gantry.log of %d bytes at %#x, and the memory ends at %#x", length, at, m.Memory().Size()))
	}
	d, _ := ctx.Value(diaryKey{}).(*diary)
	line := fmt.Appendf(nil, "%s%s", levels[level], text[:min(len(text), maxLineBytes)])
	_, _ = d.Write(append(line, '\n')) // a log that is gone is no reason to end
}
