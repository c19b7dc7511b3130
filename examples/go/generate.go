// Generate continues a prompt on yoio servers, with all that a client needs in production: deadline and time
// budget, Ctrl-C as a cancel, gRPC's own retries, decoded error details, a generation that is taken up again on
// another server when its stream broke, TLS and an API key.
//
// From the root of the project, in a module of yours that has `replace github.com/yoio/yoio/gen/go => ./gen`:
//
//	protoc -I proto --go_out=gen --go_opt=module=github.com/yoio/yoio/gen/go \
//	    --go-grpc_out=gen --go-grpc_opt=module=github.com/yoio/yoio/gen/go proto/yoio/v1/*.proto
//	go run generate.go 'Once upon a time'
//
// Versions of gRPC before 1.40 retry only with GRPC_GO_RETRY=on in the environment.
package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sort"
	"strings"
	"time"

	yoiov1 "github.com/yoio/yoio/gen/go/yoio/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// As in docs/clients.md.
const serviceConfig = `{
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{
    "name": [{"service": "yoio.v1.InferenceService"}],
    "retryPolicy": {
      "maxAttempts": 4,
      "initialBackoff": "0.2s",
      "maxBackoff": "5s",
      "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]
    }
  }],
  "retryThrottling": {"maxTokens": 100, "tokenRatio": 1}
}`

const mostResumes = 3

var (
	server     = flag.String("server", "dns:///127.0.0.1:50051", "all addresses behind it take calls in turn")
	tlsCA      = flag.String("tls-ca", "", "PEM `file`; asks for TLS")
	tlsCert    = flag.String("tls-cert", "", "PEM `file`, for servers that ask for it")
	tlsKey     = flag.String("tls-key", "", "PEM `file`")
	apiKeyFile = flag.String("api-key-file", "", "`file` with the key")
	timeout    = flag.Float64("timeout", 60, "`seconds` for everything together")
	timeBudget = flag.Float64("time-budget", 3600, "`seconds` for one stream")
	maxTokens  = flag.Int("max-tokens", 64, "most tokens of the output")
)

func say(format string, values ...interface{}) {
	fmt.Fprintf(os.Stderr, "generate: "+format+"\n", values...)
}

// connect returns one channel for the whole program: it holds a connection to every address behind the name.
func connect() (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		// Else gRPC retries no request above 256 KiB.
		grpc.WithDefaultCallOptions(grpc.MaxRetryRPCBufferSize(17 << 20)),
	}
	if *tlsCA == "" {
		// grpc.NewClient (1.63) wants WithTransportCredentials(insecure.NewCredentials()) instead.
		return grpc.Dial(*server, append(options, grpc.WithInsecure())...)
	}
	pem, err := os.ReadFile(*tlsCA)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New(*tlsCA + " holds no certificate")
	}
	if *tlsCert != "" {
		pair, err := tls.LoadX509KeyPair(*tlsCert, *tlsKey)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return grpc.Dial(*server, append(options, grpc.WithTransportCredentials(credentials.NewTLS(config)))...)
}

// describe says what a failed call tells, and whether this request may have broken the engine.
func describe(err error) (text string, suspect bool, retryAfter time.Duration) {
	failed := status.Convert(err)
	text = failed.Code().String()
	var notes []string
	for _, detail := range failed.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			text += ", " + d.GetReason()
			for key, value := range d.GetMetadata() {
				notes = append(notes, key+"="+value)
			}
			suspect = d.GetMetadata()["suspect"] == "true"
		case *errdetails.RetryInfo:
			retryAfter = time.Duration(d.GetRetryDelay().GetSeconds())*time.Second +
				time.Duration(d.GetRetryDelay().GetNanos())
			notes = append(notes, "retry_after="+retryAfter.String())
		}
	}
	text += ": " + failed.Message()
	if len(notes) > 0 {
		sort.Strings(notes)
		text += " (" + strings.Join(notes, ", ") + ")"
	}
	return text, suspect, retryAfter
}

// generation is one output, whatever number of streams it takes.
type generation struct {
	client   yoiov1.InferenceServiceClient
	name     string // names the request in the server's log
	prompt   []int32
	ids      []int32
	shown    string
	finished bool
	reason   yoiov1.FinishReason
}

// run generates under the deadline of ctx, which bounds every call with its retries.
func (g *generation) run(ctx context.Context) error {
	tokens, err := g.client.Tokenize(ctx, &yoiov1.TokenizeRequest{Text: proto.String(flag.Arg(0))})
	if err != nil {
		return err
	}
	g.prompt = tokens.GetIds()
	for resumes, suspects := 0, 0; ; resumes++ {
		err := g.stream(ctx, resumes)
		if err == nil {
			return nil
		}
		text, suspect, pause := describe(err)
		if suspect {
			suspects++
		}
		// Before the first token gRPC has tried again already. After it only we know what is missing.
		broke := status.Code(err) == codes.Unavailable && len(g.ids) > 0
		if !broke || resumes == mostResumes || suspects > 1 {
			return err
		}
		if pause == 0 {
			pause = 200 * time.Millisecond
		}
		time.Sleep(pause)
		if err := g.mendText(ctx); err != nil {
			return err
		}
		say("the stream broke (%s); going on after %d tokens", text, len(g.ids))
	}
}

// stream asks for what is missing, and shows it as it comes.
func (g *generation) stream(ctx context.Context, resumes int) error {
	if g.finished || len(g.ids) == *maxTokens {
		return nil // the stream broke behind the last token
	}
	// The budget ends the stream well, with what is ready. It is spent before the deadline, which is an error.
	deadline, _ := ctx.Deadline()
	budget := time.Duration(*timeBudget * float64(time.Second))
	if left := time.Until(deadline) * 9 / 10; budget > left {
		budget = left
	}
	stream, err := g.client.Generate(ctx, &yoiov1.GenerateRequest{
		RequestId: proto.String(fmt.Sprintf("%s.%d", g.name, resumes)),
		Prompt: &yoiov1.GenerateRequest_TokenIds{
			TokenIds: &yoiov1.TokenIds{Ids: append(append([]int32{}, g.prompt...), g.ids...)}},
		Sampling:   &yoiov1.SamplingOptions{Temperature: proto.Float32(0)}, // else what follows is another sample
		Stop:       &yoiov1.StopOptions{MaxTokens: proto.Int32(int32(*maxTokens - len(g.ids)))},
		Output:     &yoiov1.OutputOptions{Ids: proto.Bool(true)},
		TimeBudget: durationpb.New(budget),
	})
	for err == nil {
		var event *yoiov1.GenerateResponse
		if event, err = stream.Recv(); err == nil {
			g.ids = append(g.ids, event.GetDelta().GetIds()...)
			g.show(event.GetDelta().GetText())
			if event.GetFinished() != nil {
				g.finished, g.reason = true, event.GetFinished().GetReason()
			}
		}
	}
	if err == io.EOF {
		return nil
	}
	return err
}

func (g *generation) show(text string) {
	g.shown += text
	fmt.Print(text)
}

// mendText shows what has come as ids and not yet as text. A character that came by half is generated anew.
func (g *generation) mendText(ctx context.Context) error {
	var text string
	for tries := 0; tries < 4; tries++ {
		answer, err := g.client.Detokenize(ctx,
			&yoiov1.DetokenizeRequest{TokenIds: &yoiov1.TokenIds{Ids: g.ids}})
		if err != nil {
			return err
		}
		if text = answer.GetText(); !strings.HasSuffix(text, "\ufffd") {
			break
		}
		g.ids = g.ids[:len(g.ids)-1]
	}
	g.show(text[len(g.shown):])
	return nil
}

func main() {
	flag.Parse()
	conn, err := connect()
	if err != nil {
		say("%v", err)
		os.Exit(2)
	}
	defer conn.Close()
	interruptible, stop := signal.NotifyContext(context.Background(), os.Interrupt) // Ctrl-C cancels the call
	defer stop()
	ctx, cancel := context.WithTimeout(interruptible, time.Duration(*timeout*float64(time.Second)))
	defer cancel()
	if *apiKeyFile != "" {
		key, err := os.ReadFile(*apiKeyFile)
		if err != nil {
			say("%v", err)
			os.Exit(2)
		}
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+strings.TrimSpace(string(key)))
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		say("%v", err)
		os.Exit(2)
	}
	g := &generation{
		client: yoiov1.NewInferenceServiceClient(conn),
		name:   fmt.Sprintf("%x", id),
		reason: yoiov1.FinishReason_FINISH_REASON_LENGTH,
	}
	if err := g.run(ctx); err != nil {
		if interruptible.Err() != nil {
			os.Exit(130)
		}
		text, _, _ := describe(err)
		say("%s", text)
		os.Exit(1)
	}
	fmt.Println()
	say("%s, %d tokens", g.reason, len(g.ids))
}
