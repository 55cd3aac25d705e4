package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
)

// ticksPerSecond is what /proc counts CPU time in; Linux has had no other value since 2.6.
const ticksPerSecond = 100

// meters are what a server and its store have done so far.
type meters struct {
	// Of the server: user and system time, in seconds.
	cpu float64
	// Of the whole machine, in ticks of all cores.
	busy, total float64
	// Of the store; 0 without one.
	puts, putBytes float64
}

// since gives what was done between two looks.
func (m meters) since(before meters) meters {
	return meters{m.cpu - before.cpu, m.busy - before.busy, m.total - before.total,
		m.puts - before.puts, m.putBytes - before.putBytes}
}

// measure looks at /proc and, unless its address is empty, at slow-s3's counters.
func measure(pid int, s3 string) meters {
	m := meters{cpu: processSeconds(pid)}
	m.busy, m.total = machineTicks()
	if s3 != "" {
		counters := storeCounters(s3)
		m.puts, m.putBytes = counters["put.landed"], counters["put.bytes"]
	}
	return m
}

func processSeconds(pid int) float64 {
	stat := must(os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)))
	// The name may hold anything, so we count from the parenthesis that closes it.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	return (number(fields[11]) + number(fields[12])) / ticksPerSecond
}

func machineTicks() (busy, total float64) {
	line, _, _ := strings.Cut(string(must(os.ReadFile("/proc/stat"))), "\n")
	for i, field := range strings.Fields(line)[1:9] {
		total += number(field)
		if i != 3 && i != 4 { // idle and waiting for IO
			busy += number(field)
		}
	}
	return busy, total
}

func storeCounters(address string) map[string]float64 {
	conn := must(net.Dial("tcp", address))
	defer conn.Close()
	must(io.WriteString(conn, "GET /_control/counters HTTP/1.0\r\n\r\n"))
	counters := map[string]float64{}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if name, value, found := strings.Cut(lines.Text(), " "); found && strings.HasPrefix(name, "put.") {
			counters[name] = number(value)
		}
	}
	return counters
}

func number(text string) float64 { return must(strconv.ParseFloat(text, 64)) }

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
