package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gantry-project/gantry/plugins/containerizer/oci/layers"
	"github.com/gantry-project/gantry/plugins/containerizer/oci/program"
	"github.com/gantry-project/gantry/plugins/containerizer/oci/source"
	containerizerpb "github.com/gantry-project/gantry/sdk/proto/gantry/containerizer/v1"
)

// registryKind is the kind of images that have no KIND: before their names.
const registryKind = "docker"

// plugin prepares containers of images.
type plugin struct {
	folder   string
	roots    source.Roots
	registry source.Registry
	store    *layers.Store
	known    *known
}

func open(r *containerizerpb.OpenRequest, log *slog.Logger) (*plugin, error) {
	c, err := parseConfig(r.GetConfigJson())
	if err != nil {
		return nil, err
	}
	store, err := layers.Open(r.GetFolder(), c.limits(), r.GetContainers(), log)
	if err != nil {
		return nil, err
	}
	known, err := openKnown(filepath.Join(r.GetFolder(), "known"))
	if err != nil {
		return nil, err
	}
	return &plugin{r.GetFolder(), c.Roots, source.NewRegistry(c.InsecureRegistries), store, known}, nil
}

// Prepare implements containerizer.Plugin.
func (p *plugin) Prepare(ctx context.Context, r *containerizerpb.PrepareRequest) (*containerizerpb.PrepareResponse, error) {
	image, here, err := p.find(ctx, r)
	if err != nil {
		return nil, err
	}
	paths, err := p.store.Ensure(ctx, image.Layers)
	if err != nil {
		return nil, err
	}
	slices.Reverse(paths) // topmost first
	argv, err := program.Argv(r.GetContainerInfo().GetType(), r.GetCommand(), image.Config)
	if err != nil {
		return nil, err
	}
	answer := &containerizerpb.PrepareResponse{
		Layers: paths, Argv: argv, Digest: image.Digest,
		Env: program.Env(image.Config), Cwd: program.Cwd(image.Config),
	}
	if answer.User, err = p.user(r, image, paths); err != nil {
		return nil, err
	}
	if !here && r.GetKind() == registryKind {
		p.known.keep(r.GetImage(), image)
	}
	return answer, nil
}

// Cleanup implements containerizer.Plugin.
func (p *plugin) Cleanup(_ context.Context, container string) error {
	return p.store.Release(container)
}

// image is a source's, with what this plugin asks of it.
type image struct{ *source.Image }

func (i image) ids() []v1.Hash {
	ids := make([]v1.Hash, len(i.Layers))
	for n, l := range i.Layers {
		ids[n] = l.DiffID
	}
	return ids
}

// find says what an image is, and holds its layers for the container. One of a registry that
// is here already is not looked up again unless the task asks for that.
func (p *plugin) find(ctx context.Context, r *containerizerpb.PrepareRequest) (i image, here bool, err error) {
	if r.GetKind() == registryKind && !r.GetFresh() {
		if i, ok := p.known.find(r.GetImage()); ok {
			err := p.store.Hold(ctx, r.GetContainer(), i.ids())
			if err != nil || p.store.Has(i.ids()) {
				return i, true, err
			}
		}
	}
	found, err := p.look(ctx, r)
	if err != nil {
		return image{}, false, err
	}
	i = image{found}
	return i, false, p.store.Hold(ctx, r.GetContainer(), i.ids())
}

// look reads what an image is from its source.
func (p *plugin) look(ctx context.Context, r *containerizerpb.PrepareRequest) (*source.Image, error) {
	at := strings.TrimPrefix(r.GetImage(), r.GetKind()+":")
	switch r.GetKind() {
	case "oci":
		return source.Layout(p.roots, at)
	case "docker-archive":
		return source.Archive(p.roots, at)
	case registryKind:
		return p.registry.Image(ctx, r.GetImage())
	}
	return nil, fmt.Errorf("images of kind %q are not for this plugin: it has docker, oci and docker-archive", r.GetKind())
}

// user is whom the program runs as: the task's choice, else the image's, else the kernel's.
func (p *plugin) user(r *containerizerpb.PrepareRequest, i image, paths []string) (*containerizerpb.User, error) {
	name := r.GetCommand().GetUser()
	if name == "" {
		name = i.Config.User
	}
	if name == "" {
		return nil, nil
	}
	var files program.Files
	for _, path := range paths {
		files = append(files, filepath.Join(p.folder, path))
	}
	return program.User(files, name)
}
