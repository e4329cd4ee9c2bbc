package containerizer

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	containerizerpb "github.com/gantry-project/gantry/sdk/proto/gantry/containerizer/v1"
)

// shelf prepares one image and fails with all others.
type shelf struct{ cleaned []string }

func (s *shelf) Prepare(ctx context.Context, r *containerizerpb.PrepareRequest) (*containerizerpb.PrepareResponse, error) {
	switch r.GetImage() {
	case "there":
		return &containerizerpb.PrepareResponse{Layers: []string{"a"}}, nil
	case "unavailable":
		return nil, status.Error(codes.Unavailable, "no such image")
	}
	return nil, errors.New("no such image")
}

func (s *shelf) Cleanup(_ context.Context, container string) error {
	s.cleaned = append(s.cleaned, container)
	return nil
}

func TestServer(t *testing.T) {
	own := &shelf{}
	s := &server{open: func(r *containerizerpb.OpenRequest) (Plugin, error) { return own, nil }}
	if _, err := s.Prepare(t.Context(), &containerizerpb.PrepareRequest{}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("before Open: %v", err)
	}
	if _, err := s.Cleanup(t.Context(), &containerizerpb.CleanupRequest{}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("before Open: %v", err)
	}
	if _, err := s.Open(t.Context(), &containerizerpb.OpenRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), &containerizerpb.OpenRequest{}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a second Open: %v", err)
	}
	if answer, err := s.Prepare(t.Context(), &containerizerpb.PrepareRequest{Image: "there"}); err != nil || answer.Layers[0] != "a" {
		t.Errorf("%v, %v", answer, err)
	}
	// A plugin's own error never means what the kernel would ask again for.
	for _, image := range []string{"not", "unavailable"} {
		_, err := s.Prepare(t.Context(), &containerizerpb.PrepareRequest{Image: image})
		if status.Code(err) != codes.Aborted {
			t.Errorf("%s: %v", image, err)
		}
	}
	if _, err := s.Cleanup(t.Context(), &containerizerpb.CleanupRequest{Container: "c1"}); err != nil || len(own.cleaned) != 1 || own.cleaned[0] != "c1" {
		t.Errorf("%v, %v", own.cleaned, err)
	}
}

func TestOpenFails(t *testing.T) {
	s := &server{
		open: func(*containerizerpb.OpenRequest) (Plugin, error) { return nil, errors.New("bad key") },
		exit: func() {},
	}
	_, err := s.Open(t.Context(), &containerizerpb.OpenRequest{})
	if status.Code(err) != codes.InvalidArgument || status.Convert(err).Message() != "bad key" {
		t.Errorf("%v", err)
	}
	if _, err := s.Prepare(t.Context(), &containerizerpb.PrepareRequest{}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("after a failed Open: %v", err)
	}
}
