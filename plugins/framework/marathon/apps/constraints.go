package apps

import (
	"regexp"
	"strconv"

	"github.com/gantry-project/gantry/plugins/framework/internal/offer"
)

func (i *instance) place() offer.Place {
	return offer.Place{Host: i.Host, Region: i.Region, Zone: i.Zone, Attributes: i.Attributes}
}

// allows says whether one more instance may be at p under a valid constraint. Instances
// that are on their way out do not count.
func (a *app) allows(constraint []string, p offer.Place) bool {
	name, operator, value := constraint[0], constraint[1], ""
	if len(constraint) > 2 {
		value = constraint[2]
	}
	here, ok := p.Field(name)
	if !ok {
		return operator == "UNLIKE"
	}
	switch operator {
	case "LIKE", "UNLIKE":
		pattern, err := regexp.Compile("^(?:" + value + ")$")
		return err == nil && pattern.MatchString(here) == (operator == "LIKE")
	case "IS":
		if number, err := strconv.ParseFloat(value, 64); err == nil {
			value = offer.ScalarText(number)
		}
		return here == value
	}
	return a.spreads(operator, value, here, a.counted(name))
}

// counted is how many of the wanted instances are at each value of a field.
func (a *app) counted(name string) map[string]int {
	count := map[string]int{}
	for _, i := range a.instances {
		if i.Doomed || i.Config != a.spec().VersionInfo.LastConfigChangeAt {
			continue
		}
		value, ok := i.place().Field(name)
		if !ok {
			value = "\x00none" // a group of its own, which no offer is in
		}
		count[value]++
	}
	return count
}

// spreads judges the operators that look at the other instances.
func (a *app) spreads(operator, value, here string, count map[string]int) bool {
	limit, _ := strconv.Atoi(value)
	switch operator {
	case "UNIQUE":
		return count[here] == 0
	case "CLUSTER":
		if value != "" {
			return here == value
		}
		return len(count) == 0 || count[here] > 0
	case "MAX_PER":
		return count[here] < limit
	case "GROUP_BY":
		if limit == 0 {
			return fewest(here, count)
		}
		return a.groups(limit, here, count)
	}
	return false
}

// fewest spreads over whatever groups turn up: none gets ahead of another.
func fewest(here string, count map[string]int) bool {
	for _, n := range count { // any order: the least of all
		if n < count[here] {
			return false
		}
	}
	return true
}

// groups spreads evenly over the given number of groups, the remainder over the first to
// come.
func (a *app) groups(wanted int, here string, count map[string]int) bool {
	if _, ok := count[here]; !ok {
		return len(count) < wanted
	}
	share, rest := a.spec().Instances/wanted, a.spec().Instances%wanted
	for _, n := range count { // any order: a sum
		rest -= max(0, n-share)
	}
	return count[here] < share || (count[here] == share && rest > 0)
}
