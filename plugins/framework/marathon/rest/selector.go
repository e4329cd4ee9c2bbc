package rest

import (
	"net/http"
	"slices"
	"strings"
)

// parseSelector reads a label selector: a, a==b, a!=b, a in (x,y), a notin (x,y), joined
// by commas. The label must exist in every form.
func parseSelector(text string) (func(labels map[string]string) bool, error) {
	p := selectorParser{rest: text}
	var terms []func(map[string]string) bool
	for {
		term, ok := p.term()
		if ok {
			terms = append(terms, term)
		}
		if ok && p.take(",") {
			continue
		}
		if !ok || strings.TrimSpace(p.rest) != "" {
			return nil, &statusError{http.StatusUnprocessableEntity, "Parsing of label selector failed: " + text +
				" is not of the form: a, a==b, a!=b, a in (x,y), a notin (x,y), joined by commas"}
		}
		return func(labels map[string]string) bool {
			return !slices.ContainsFunc(terms, func(holds func(map[string]string) bool) bool { return !holds(labels) })
		}, nil
	}
}

type selectorParser struct{ rest string }

// take skips white space and then token, if that is what follows.
func (p *selectorParser) take(token string) bool {
	trimmed := strings.TrimLeft(p.rest, " \t")
	rest, ok := strings.CutPrefix(trimmed, token)
	if ok {
		p.rest = rest
	}
	return ok
}

// word reads a name or value; anything but letters, digits and -_. is escaped by \.
func (p *selectorParser) word() (string, bool) {
	p.rest = strings.TrimLeft(p.rest, " \t")
	var b strings.Builder
	i := 0
	for ; i < len(p.rest); i++ {
		c := p.rest[i]
		if c == '\\' && i+1 < len(p.rest) {
			i++
			b.WriteByte(p.rest[i])
			continue
		}
		if !isPlain(c) {
			break
		}
		b.WriteByte(c)
	}
	p.rest = p.rest[i:]
	return b.String(), b.Len() > 0
}

func isPlain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
}

func (p *selectorParser) term() (func(map[string]string) bool, bool) {
	name, ok := p.word()
	if !ok {
		return nil, false
	}
	var values []string
	wanted := true
	switch {
	case p.take("=="):
		values, ok = p.one()
	case p.take("!="):
		wanted = false
		values, ok = p.one()
	case p.take("in "), p.take("in("):
		values, ok = p.set()
	case p.take("notin "), p.take("notin("):
		wanted = false
		values, ok = p.set()
	default:
		return func(labels map[string]string) bool { _, exists := labels[name]; return exists }, true
	}
	return func(labels map[string]string) bool {
		value, exists := labels[name]
		return exists && slices.Contains(values, value) == wanted
	}, ok
}

func (p *selectorParser) one() ([]string, bool) {
	value, ok := p.word()
	return []string{value}, ok
}

func (p *selectorParser) set() ([]string, bool) {
	p.take("(")
	var values []string
	for {
		value, ok := p.word()
		if !ok {
			return nil, false
		}
		values = append(values, value)
		if p.take(")") {
			return values, true
		}
		if !p.take(",") {
			return nil, false
		}
	}
}
