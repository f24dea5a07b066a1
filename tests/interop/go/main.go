// The Go client of NATS against a server: core and JetStream verbs. Usage: interop URL. Prints "ok" or why not.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ok")
}

func run(url string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := core(nc); err != nil {
		return fmt.Errorf("core: %w", err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	if err := streams(ctx, js); err != nil {
		return fmt.Errorf("streams: %w", err)
	}
	if err := consumers(ctx, js); err != nil {
		return fmt.Errorf("consumers: %w", err)
	}
	if err := ordered(ctx, js); err != nil {
		return fmt.Errorf("ordered: %w", err)
	}
	if err := legacy(nc); err != nil {
		return fmt.Errorf("legacy: %w", err)
	}
	return nc.Drain()
}

func want(what string, got, wanted any) error {
	if got != wanted {
		return fmt.Errorf("%s: %v instead of %v", what, got, wanted)
	}
	return nil
}

func core(nc *nats.Conn) error {
	wild, err := nc.SubscribeSync("a.*.>")
	if err != nil {
		return err
	}
	for range 2 {
		if _, err := nc.QueueSubscribe("work", "q", func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil {
			return err
		}
	}
	msg := nats.NewMsg("a.b.c")
	msg.Header.Set("Key", "value")
	if err := nc.PublishMsg(msg); err != nil {
		return err
	}
	got, err := wild.NextMsg(2 * time.Second)
	if err != nil {
		return err
	}
	if err := want("header", got.Header.Get("Key"), "value"); err != nil {
		return err
	}
	reply, err := nc.Request("work", []byte("echo"), 2*time.Second)
	if err != nil {
		return err
	}
	if err := want("reply", string(reply.Data), "echo"); err != nil {
		return err
	}
	if _, err := nc.Request("nobody", nil, 2*time.Second); !errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("no responders: %v", err)
	}
	return nc.Flush()
}

func streams(ctx context.Context, js jetstream.JetStream) error {
	config := jetstream.StreamConfig{Name: "GO", Subjects: []string{"go.>"}, AllowDirect: true}
	stream, err := js.CreateStream(ctx, config)
	if err != nil {
		return err
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "GO"}); !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return fmt.Errorf("second create: %v", err)
	}
	for number := range 10 {
		ack, err := js.Publish(ctx, fmt.Sprintf("go.%d", number%2), []byte{byte(number)}, jetstream.WithMsgID(fmt.Sprint(number)))
		if err != nil {
			return err
		}
		if err := want("sequence", ack.Sequence, uint64(number+1)); err != nil {
			return err
		}
	}
	again, err := js.Publish(ctx, "go.0", nil, jetstream.WithMsgID("3"))
	if err != nil {
		return err
	}
	if err := want("duplicate", again.Duplicate, true); err != nil {
		return err
	}
	if _, err := js.Publish(ctx, "go.0", nil, jetstream.WithExpectLastSequence(3)); err == nil {
		return errors.New("a wrong expectation was accepted")
	}
	for number := range 100 {
		if _, err := js.PublishAsync("go.async", []byte{byte(number)}); err != nil {
			return err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return ctx.Err()
	}
	message, err := stream.GetLastMsgForSubject(ctx, "go.1")
	if err != nil {
		return err
	}
	if err := want("last", message.Sequence, uint64(10)); err != nil {
		return err
	}
	if err := stream.DeleteMsg(ctx, 5); err != nil {
		return err
	}
	if _, err := stream.GetMsg(ctx, 5); !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("deleted message: %v", err)
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject("go.async"), jetstream.WithPurgeKeep(10)); err != nil {
		return err
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return err
	}
	if err := want("messages", info.State.Msgs, uint64(19)); err != nil {
		return err
	}
	if err := want("subjects", len(info.State.Subjects), 3); err != nil {
		return err
	}
	config.MaxMsgs = 1000
	if _, err := js.UpdateStream(ctx, config); err != nil {
		return err
	}
	account, err := js.AccountInfo(ctx)
	if err != nil {
		return err
	}
	return want("streams", account.Streams, 1)
}

func consumers(ctx context.Context, js jetstream.JetStream) error {
	consumer, err := js.CreateOrUpdateConsumer(ctx, "GO", jetstream.ConsumerConfig{
		Durable: "pull", AckPolicy: jetstream.AckExplicitPolicy, FilterSubjects: []string{"go.0", "go.1"},
	})
	if err != nil {
		return err
	}
	batch, err := consumer.Fetch(4, jetstream.FetchMaxWait(2*time.Second))
	if err != nil {
		return err
	}
	count := 0
	for msg := range batch.Messages() {
		switch count++; count {
		case 1:
			err = msg.DoubleAck(ctx)
		case 2:
			err = msg.Nak()
		case 3:
			err = msg.TermWithReason("done")
		default:
			err = errors.Join(msg.InProgress(), msg.Ack())
		}
		if err != nil {
			return err
		}
	}
	if err := errors.Join(batch.Error(), want("fetched", count, 4)); err != nil {
		return err
	}
	// The NAKed one comes again, with the other five.
	left := make(chan string, 100)
	running, err := consumer.Consume(func(msg jetstream.Msg) {
		meta, _ := msg.Metadata()
		left <- fmt.Sprintf("%d/%d", meta.Sequence.Stream, meta.NumDelivered)
		_ = msg.Ack()
	}, jetstream.PullMaxMessages(3))
	if err != nil {
		return err
	}
	defer running.Stop()
	var seen []string
	for len(seen) < 6 {
		select {
		case one := <-left:
			seen = append(seen, one)
		case <-time.After(5 * time.Second):
			return fmt.Errorf("consumed only %v", seen)
		}
	}
	if err := want("again", slices.Contains(seen, "2/2"), true); err != nil {
		return err
	}
	none, err := consumer.FetchNoWait(5)
	if err != nil {
		return err
	}
	for range none.Messages() {
		return errors.New("a message too many")
	}
	return none.Error()
}

func ordered(ctx context.Context, js jetstream.JetStream) error {
	consumer, err := js.OrderedConsumer(ctx, "GO", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"go.async"}})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	for number := range 10 {
		msg, err := messages.Next(jetstream.NextMaxWait(5 * time.Second))
		if err != nil {
			return err
		}
		if err := want("ordered", int(msg.Data()[0]), 90+number); err != nil {
			return err
		}
	}
	return nil
}

func legacy(nc *nats.Conn) error {
	js, err := nc.JetStream()
	if err != nil {
		return err
	}
	got := make(chan *nats.Msg, 100)
	sub, err := js.ChanQueueSubscribe("go.*", "group", got, nats.Durable("push"), nats.ManualAck(), nats.DeliverLastPerSubject())
	if err != nil {
		return err
	}
	for range 3 {
		select {
		case msg := <-got:
			if err := msg.AckSync(); err != nil {
				return err
			}
		case <-time.After(5 * time.Second):
			return errors.New("push consumer delivers nothing")
		}
	}
	if err := sub.Unsubscribe(); err != nil {
		return err
	}
	flow, err := js.SubscribeSync("go.async", nats.OrderedConsumer())
	if err != nil {
		return err
	}
	if _, err := flow.NextMsg(5 * time.Second); err != nil {
		return err
	}
	if err := js.DeleteConsumer("GO", "push"); err != nil && !errors.Is(err, nats.ErrConsumerNotFound) {
		return err
	}
	return js.DeleteStream("GO")
}
