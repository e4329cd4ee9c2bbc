package keeper

import (
	"encoding/binary"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"
)

const (
	// maxRequest bounds a frame to the keeper; a container's environment is most of it.
	maxRequest = 4 << 20
	// maxAnswer bounds a frame from the keeper; a Welcome lists all containers.
	maxAnswer = 64 << 20
)

// writeFrame writes m as one frame of at most limit bytes.
func writeFrame(w io.Writer, m proto.Message, limit int) error {
	frame, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 4), m)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	if len(frame)-4 > limit {
		return fmt.Errorf("frame of %d bytes is too large: at most %d", len(frame)-4, limit)
	}
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	_, err = w.Write(frame)
	return err
}

// readFrame reads one frame into m. At the end of the stream between two frames the
// error is io.EOF.
func readFrame(r io.Reader, m proto.Message, limit int) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head[:])
	if uint64(size) > uint64(limit) {
		return fmt.Errorf("frame of %d bytes is too large: at most %d", size, limit)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return fmt.Errorf("read frame: %w", noEOF(err))
	}
	if err := proto.Unmarshal(body, m); err != nil {
		return fmt.Errorf("decode frame: %w", err)
	}
	return nil
}

// noEOF makes an end inside a frame an error of its own.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
