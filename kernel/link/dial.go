package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/gantry-project/gantry/kernel/link/linkpb"
)

// AddressPath is where a master says, over HTTP, where its link is: an Address in JSON.
const AddressPath = "/gantry/v1/link"

const (
	resolveWithin = 5 * time.Second
	maxAddress    = 64 << 10 // bytes of an answer
	// An agent of several masters asks one of them each watchEvery whether there is a newer
	// leader: one that was stopped, or cut off, does not say that it leads no more.
	watchEvery, watchWithin = 2 * time.Second, time.Second
)

var (
	// ErrDenied says that the master does not accept the agent's token.
	ErrDenied = errors.New("the master denied the agent's token")
	// ErrNewer ends the stream to a master when another one has a newer epoch.
	ErrNewer = errors.New("another master leads")
)

// Address is what a master answers at AddressPath.
type Address struct {
	// Address is HOST:PORT of the link.
	Address string `json:"address"`
	// Epoch is the master's.
	Epoch uint64 `json:"epoch"`
}

// DialConfig says whom to dial.
type DialConfig struct {
	// Masters are HTTP addresses, HOST:PORT or http://HOST:PORT, tried in order.
	Masters []string
	Token   string
}

// Dial asks the masters, all at once, where the leading one's link is, and attaches to the
// first that is named. Ctx bounds the dialling, not the connection; that ends with ErrNewer
// once one of several masters names a newer leader.
func Dial(ctx context.Context, cfg DialConfig) (*Conn, error) {
	if len(cfg.Masters) == 0 {
		return nil, errors.New("dial a master: none is known")
	}
	address, err := find(ctx, cfg.Masters)
	if err != nil {
		return nil, err
	}
	conn, err := attach(ctx, address.Address, cfg.Token)
	if err != nil {
		return nil, fmt.Errorf("dial the master's link at %s: %w", address.Address, err)
	}
	if len(cfg.Masters) > 1 {
		go watch(conn, cfg.Masters, address.Epoch)
	}
	return conn, nil
}

// find returns the first answer; the error has what each master said.
func find(ctx context.Context, masters []string) (Address, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		address Address
		err     error
	}
	answers := make(chan answer, len(masters))
	for _, master := range masters {
		go func() {
			address, err := resolve(ctx, master)
			if err != nil {
				err = fmt.Errorf("dial master %s: %w", master, err)
			}
			answers <- answer{address, err}
		}()
	}
	var failed error
	for range masters {
		a := <-answers
		if a.err == nil {
			return a.address, nil
		}
		failed = errors.Join(failed, a.err)
	}
	return Address{}, failed
}

// watch ends the stream when there is a newer leader.
func watch(conn *Conn, masters []string, epoch uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	go func() { // an answer that takes its time holds up nobody
		<-conn.end.done
		cancel()
	}()
	for i := 0; ctx.Err() == nil; i++ {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		for j := range masters { // the next one, if that does not answer
			ask, enough := context.WithTimeout(ctx, watchWithin)
			a, err := resolve(ask, masters[(i+j)%len(masters)])
			enough()
			if err == nil && a.Epoch > epoch {
				conn.end.with(ErrNewer)
			}
			if err == nil || ctx.Err() != nil {
				break
			}
		}
	}
}

// resolve follows redirects: a standby points to the leader.
func resolve(ctx context.Context, master string) (Address, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	if !strings.Contains(master, "://") {
		master = "http://" + master
	}
	where, err := url.JoinPath(master, AddressPath)
	if err != nil {
		return Address{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return Address{}, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return Address{}, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return Address{}, fmt.Errorf("it answered %s to GET %s", response.Status, AddressPath)
	}
	var a Address
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAddress)).Decode(&a); err != nil {
		return Address{}, fmt.Errorf("its answer to GET %s is no address: %w", AddressPath, err)
	}
	if _, _, err := net.SplitHostPort(a.Address); err != nil {
		return Address{}, fmt.Errorf("its answer to GET %s is no address: %w", AddressPath, err)
	}
	return a, nil
}

func attach(ctx context.Context, address, token string) (*Conn, error) {
	client, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: probeAfter, Timeout: probeWithin}),
	)
	if err != nil {
		return nil, err
	}
	life, cancel := context.WithCancel(context.Background())
	hangUp := func() {
		cancel()
		client.Close() // fails only where it was closed before
	}
	// The stream lives longer than the dialling, but not if that is given up.
	giveUp := context.AfterFunc(ctx, cancel)
	stream, err := open(metadata.AppendToOutgoingContext(life, "authorization", "Bearer "+token), client)
	if !giveUp() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		hangUp()
		return nil, err
	}
	conn, read, written := pump(stream)
	go func() {
		defer hangUp()
		<-conn.end.done
		late := time.After(flushWithin)
		select {
		case <-written:
		case <-late:
			return
		}
		if stream.CloseSend() != nil {
			return
		}
		select {
		case <-read: // The master has seen the end, and so all that came before.
		case <-late:
		}
	}()
	return conn, nil
}

// open returns when the master has let the agent in.
func open(ctx context.Context, client *grpc.ClientConn) (linkpb.Link_AttachClient, error) {
	stream, err := linkpb.NewLinkClient(client).Attach(ctx)
	if err != nil {
		return nil, err
	}
	header, err := stream.Header()
	if err == nil && header == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) == codes.Unauthenticated {
		return nil, fmt.Errorf("%w: %s", ErrDenied, status.Convert(err).Message())
	}
	return stream, err
}
