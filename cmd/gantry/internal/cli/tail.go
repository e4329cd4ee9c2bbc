package cli

import (
	"context"
	"io"
	"time"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
)

// pollEvery is how often the files of a running task are looked at.
const pollEvery = 150 * time.Millisecond

// tail copies the output of a task while it is written.
type tail struct {
	client *client.Client
	box    client.Sandbox
	done   <-chan struct{} // closed when nothing more will be written
}

// copy follows both files until done is closed and their ends are reached. A file that is not there is empty, and what fails
// before the end is tried again: an agent may be away for a moment.
func (t tail) copy(ctx context.Context, to outputs) error {
	files := []struct {
		name   string
		to     io.Writer
		offset uint64
	}{{name: "stdout", to: to.stdout}, {name: "stderr", to: to.stderr}}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for last := false; ; {
		select {
		case <-t.done: // asked before the files are read, so that the last round sees all
			last = true
		default:
		}
		for i := range files {
			n, err := t.drain(ctx, files[i].name, files[i].offset, files[i].to)
			files[i].offset += n
			if err != nil && last {
				return elsewhere("the agent", err)
			}
		}
		if last {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil // the person has seen enough
		case <-t.done:
		case <-tick.C:
		}
	}
}

// drain copies one file from offset to its present end and returns how many bytes that were.
func (t tail) drain(ctx context.Context, file string, offset uint64, to io.Writer) (uint64, error) {
	var n uint64
	for {
		data, err := t.client.Read(ctx, t.box, file, offset+n)
		if client.IsNotFound(err) || ctx.Err() != nil {
			return n, nil
		}
		if err != nil || len(data) == 0 {
			return n, err
		}
		if _, err := to.Write(data); err != nil {
			return n, err
		}
		n += uint64(len(data))
	}
}
