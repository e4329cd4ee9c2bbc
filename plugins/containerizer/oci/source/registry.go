package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Registry reads images of registries, as anybody may: it knows no credentials.
type Registry struct {
	transport http.RoundTripper
}

// NewRegistry makes one that speaks plain HTTP with this host and with the hosts of
// insecure, each HOST or HOST:PORT; with all others it speaks HTTPS only.
func NewRegistry(insecure []string) Registry {
	dialer := &net.Dialer{Timeout: 20 * time.Second, Control: refuseLinkLocal}
	return Registry{guard{insecure, &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSHandshakeTimeout:   20 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second,
		IdleConnTimeout:       time.Minute,
		ForceAttemptHTTP2:     true,
	}}}
}

// refuseLinkLocal keeps whoever names a registry, or is redirected by one, from the
// addresses where clouds tell a machine its secrets.
func refuseLinkLocal(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err == nil && at.Addr().Unmap().IsLinkLocalUnicast() {
		return fmt.Errorf("%w: %s is an address of this link only", ErrDenied, at.Addr())
	}
	return nil
}

// guard refuses plain HTTP where it was not allowed.
type guard struct {
	insecure []string
	next     http.RoundTripper
}

func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" && !g.plain(r.URL.Hostname(), r.URL.Host) {
		return nil, fmt.Errorf("%w: %s speaks plain HTTP, and the plugin's insecure_registries do not name it", ErrDenied, r.URL.Host)
	}
	return g.next.RoundTrip(r)
}

func (g guard) plain(host, hostPort string) bool {
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && ip.IsLoopback() ||
		slices.Contains(g.insecure, host) || slices.Contains(g.insecure, hostPort)
}

// Image looks up NAME[:TAG][@DIGEST].
func (r Registry) Image(ctx context.Context, reference string) (*Image, error) {
	ref, err := parse(reference)
	if err != nil {
		return nil, fmt.Errorf("%q is no name of an image: write NAME[:TAG] or NAME@sha256:DIGEST", reference)
	}
	options := []remote.Option{
		remote.WithContext(ctx), remote.WithAuth(authn.Anonymous), remote.WithPlatform(platform()),
		remote.WithTransport(r.transport), remote.WithUserAgent("gantry"),
	}
	image, err := remote.Image(ref, options...)
	if err != nil {
		return nil, explain(ref, err)
	}
	return r.describe(ref, image, options)
}

// describe fetches no more than it has to know.
func (r Registry) describe(ref name.Reference, image v1.Image, options []remote.Option) (*Image, error) {
	digest, err := image.Digest()
	if err != nil {
		return nil, explain(ref, err)
	}
	manifest, err := image.Manifest()
	if err != nil {
		return nil, explain(ref, err)
	}
	if err := checkLayers(manifest, nil); err != nil {
		return nil, err
	}
	raw, err := image.RawConfigFile()
	if err != nil {
		return nil, explain(ref, err)
	}
	config, err := parseConfig(raw, manifest.Config.Digest)
	if err != nil {
		return nil, err
	}
	if err := checkLayers(manifest, config); err != nil {
		return nil, err
	}
	found := &Image{Digest: digest.String(), Config: config.Config}
	for i, l := range manifest.Layers {
		found.Layers = append(found.Layers, Layer{config.RootFS.DiffIDs[i], func(ctx context.Context) (io.ReadCloser, error) {
			layer, err := remote.Layer(ref.Context().Digest(l.Digest.String()), append(slices.Clone(options), remote.WithContext(ctx))...)
			if err != nil {
				return nil, explain(ref, err)
			}
			body, err := layer.Compressed()
			if err != nil {
				return nil, explain(ref, err)
			}
			return body, nil
		}})
	}
	return found, nil
}

// parse reads a reference; a tag beside a digest says nothing.
func parse(reference string) (name.Reference, error) {
	if before, digest, ok := strings.Cut(reference, "@"); ok {
		ref, err := name.ParseReference(before)
		if err != nil {
			return nil, err
		}
		return name.NewDigest(ref.Context().Name() + "@" + digest)
	}
	return name.ParseReference(reference)
}

// explain says what a registry's error means to the task's author.
func explain(ref name.Reference, err error) error {
	host := ref.Context().RegistryStr()
	if answer, ok := errors.AsType[*transport.Error](err); ok {
		switch answer.StatusCode {
		case http.StatusNotFound:
			return fmt.Errorf("registry %s has no such image, or nothing for this host: %s", host, ref.Identifier())
		case http.StatusUnauthorized, http.StatusForbidden:
			return fmt.Errorf("registry %s does not let everybody read it (status %d); credentials are not supported yet", host, answer.StatusCode)
		}
		return fmt.Errorf("registry %s answered with status %d", host, answer.StatusCode)
	}
	return fmt.Errorf("registry %s: %w", host, err)
}

func hash(raw []byte) (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(raw))
	return h, err
}
