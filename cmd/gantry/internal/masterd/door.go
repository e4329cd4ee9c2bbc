package masterd

import (
	"errors"
	"net"
	"sync"
	"time"
)

// acceptPause is the pause after a connection that could not be accepted, for want of file descriptors say.
const acceptPause = 50 * time.Millisecond

// door is a listener that stays open while those who serve at it change. Connections wait while nobody does.
type door struct {
	net.Listener
	conns  chan net.Conn
	closed chan struct{} // by run, when the listener is
}

func newDoor(l net.Listener) *door {
	d := &door{l, make(chan net.Conn), make(chan struct{})}
	go d.run()
	return d
}

// run accepts until the listener is closed.
func (d *door) run() {
	defer close(d.closed)
	for {
		conn, err := d.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(acceptPause)
			continue
		}
		go func() { // what waits must not keep run from noticing the end
			select {
			case d.conns <- conn:
			case <-d.closed:
				conn.Close() // nobody has heard of it
			}
		}()
	}
}

// lend returns a listener for who serves next; its Close leaves the door open.
func (d *door) lend() net.Listener { return &lent{door: d, returned: make(chan struct{})} }

type lent struct {
	door     *door
	once     sync.Once
	returned chan struct{}
}

func (l *lent) Accept() (net.Conn, error) {
	select {
	case <-l.returned:
		return nil, net.ErrClosed
	default:
	}
	select {
	case conn := <-l.door.conns:
		return conn, nil
	case <-l.returned:
	case <-l.door.closed:
	}
	return nil, net.ErrClosed
}

func (l *lent) Close() error {
	l.once.Do(func() { close(l.returned) })
	return nil
}

func (l *lent) Addr() net.Addr { return l.door.Addr() }
