// Package runc starts containers through runc's libcontainer: it turns a containerpb.Spec
// into namespaces, a root filesystem, cgroups, capabilities and a seccomp filter, and
// watches what it started. Nothing else imports libcontainer.
//
//	rt, err := runc.New(filepath.Join(dir, "containers"), parent, log)
//	c, err := rt.Start(ctx, spec)
//	exit := c.Wait()
//	err = c.Destroy(ctx)
//
// Libcontainer re-executes the calling program with the argument "init" inside each
// container, which must then call Init before anything else. It needs cgo, and the build
// tag seccomp: without the tag New refuses.
package runc
