import com.google.gson.Gson;
import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.ChannelCredentials;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import io.yoio.v1.DetokenizeRequest;
import io.yoio.v1.FinishReason;
import io.yoio.v1.GenerateRequest;
import io.yoio.v1.GenerateResponse;
import io.yoio.v1.InferenceServiceGrpc;
import io.yoio.v1.InferenceServiceGrpc.InferenceServiceBlockingStub;
import io.yoio.v1.OutputOptions;
import io.yoio.v1.SamplingOptions;
import io.yoio.v1.StopOptions;
import io.yoio.v1.TokenIds;
import io.yoio.v1.TokenizeRequest;
import java.io.File;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.UUID;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/**
 * Continues a prompt on yoio servers, with all that a client needs in production: deadline and time budget, Ctrl-C as
 * a cancel, gRPC's own retries, decoded error details, a generation that is taken up again on another server when its
 * stream broke, TLS and an API key. From the root of the project, with the jars of libgrpc-java:
 *
 * <pre>
 * protoc -I proto --java_out=stubs --plugin=protoc-gen-grpc-java=$(command -v grpc_java_plugin) \
 *     --grpc-java_out=stubs proto/yoio/v1/*.proto proto/google/rpc/*.proto
 * javac -cp '/usr/share/java/*' -sourcepath stubs -d classes examples/java/Generate.java
 * java -cp 'classes:/usr/share/java/*' Generate 'Once upon a time'
 * </pre>
 */
final class Generate {
  // As in docs/clients.md.
  private static final String SERVICE_CONFIG =
      """
      {
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
      }
      """;

  private static final int MOST_RESUMES = 3;
  private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

  private final InferenceServiceBlockingStub stub;
  private final int maxTokens;
  private final double timeBudgetSeconds;
  private final String name = UUID.randomUUID().toString(); // names the request in the server's log
  private final List<Integer> prompt;
  private final List<Integer> ids = new ArrayList<>();
  private String shown = "";
  private FinishReason reason;

  private Generate(InferenceServiceBlockingStub stub, String text, int maxTokens, double timeBudgetSeconds) {
    this.stub = stub;
    this.maxTokens = maxTokens;
    this.timeBudgetSeconds = timeBudgetSeconds;
    prompt = stub.tokenize(TokenizeRequest.newBuilder().setText(text).build()).getIdsList();
  }

  private static void say(String text) {
    System.err.println("generate: " + text);
  }

  /** One channel for the whole program: it holds a connection to every address behind the name. */
  private static ManagedChannel connect(Map<String, String> options) throws IOException {
    ChannelCredentials credentials = InsecureChannelCredentials.create();
    if (options.containsKey("tls-ca")) {
      TlsChannelCredentials.Builder tls = TlsChannelCredentials.newBuilder();
      tls.trustManager(new File(options.get("tls-ca")));
      if (options.containsKey("tls-cert")) {
        tls.keyManager(new File(options.get("tls-cert")), new File(options.get("tls-key")));
      }
      credentials = tls.build();
    }
    @SuppressWarnings("unchecked")
    Map<String, ?> serviceConfig = new Gson().fromJson(SERVICE_CONFIG, Map.class);
    return Grpc.newChannelBuilder(options.getOrDefault("server", "dns:///127.0.0.1:50051"), credentials)
        .defaultServiceConfig(serviceConfig)
        .enableRetry()
        .perRpcBufferLimit(17 << 20) // else gRPC retries no request above 1 MiB
        .retryBufferSize(256 << 20)
        .keepAliveTime(30, TimeUnit.SECONDS)
        .keepAliveTimeout(10, TimeUnit.SECONDS)
        .build();
  }

  private static InferenceServiceBlockingStub makeStub(ManagedChannel channel, String apiKeyFile)
      throws IOException {
    InferenceServiceBlockingStub stub = InferenceServiceGrpc.newBlockingStub(channel);
    if (apiKeyFile == null) return stub;
    Metadata metadata = new Metadata();
    metadata.put(
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER),
        "Bearer " + Files.readString(Path.of(apiKeyFile)).strip());
    return stub.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(metadata));
  }

  /** What a failed call says. */
  private record Failure(Status status, String reason, Map<String, String> metadata, Duration retryAfter) {
    static Failure of(StatusRuntimeException error) {
      String reason = "";
      Map<String, String> metadata = Map.of();
      Duration retryAfter = null;
      try {
        for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
          if (detail.is(ErrorInfo.class)) {
            ErrorInfo info = detail.unpack(ErrorInfo.class);
            reason = info.getReason();
            metadata = info.getMetadataMap();
          } else if (detail.is(RetryInfo.class)) {
            retryAfter = detail.unpack(RetryInfo.class).getRetryDelay();
          }
        }
      } catch (InvalidProtocolBufferException unreadable) {
        reason = "";
      }
      return new Failure(error.getStatus(), reason, metadata, retryAfter);
    }

    /** The request was in a batch that broke the engine, and may be why. */
    boolean suspect() {
      return "true".equals(metadata.get("suspect"));
    }

    long pauseMillis() {
      return retryAfter == null ? 200 : retryAfter.getSeconds() * 1000 + retryAfter.getNanos() / 1_000_000;
    }

    @Override
    public String toString() {
      TreeSet<String> notes = new TreeSet<>();
      metadata.forEach((key, value) -> notes.add(key + "=" + value));
      if (retryAfter != null) notes.add("retry_after=" + pauseMillis() / 1000.0 + "s");
      return status.getCode()
          + (reason.isEmpty() ? "" : ", " + reason)
          + (": " + status.getDescription())
          + (notes.isEmpty() ? "" : " (" + String.join(", ", notes) + ")");
    }
  }

  /** Generates, whatever number of streams it takes. */
  private void run() throws InterruptedException {
    int suspects = 0;
    for (int resumes = 0; ; ++resumes) {
      try {
        stream(resumes);
        return;
      } catch (StatusRuntimeException error) {
        Failure failure = Failure.of(error);
        if (failure.suspect()) ++suspects;
        // Before the first token gRPC has tried again already. After it only we know what is missing.
        boolean broke = failure.status().getCode() == Status.Code.UNAVAILABLE && !ids.isEmpty();
        if (!broke || resumes == MOST_RESUMES || suspects > 1) throw error;
        Thread.sleep(failure.pauseMillis());
        mendText();
        say("the stream broke (" + failure + "); going on after " + ids.size() + " tokens");
      }
    }
  }

  /** Asks for what is missing, and shows it as it comes. */
  private void stream(int resumes) {
    if (reason != null || ids.size() == maxTokens) return; // the stream broke behind the last token
    // The budget ends the stream well, with what is ready. It is spent before the deadline, which is an error.
    double left = Context.current().getDeadline().timeRemaining(TimeUnit.MILLISECONDS) / 1000.0;
    long budget = Math.max(1, (long) (1000 * Math.min(timeBudgetSeconds, 0.9 * left)));
    GenerateRequest request =
        GenerateRequest.newBuilder()
            .setRequestId(name + "." + resumes)
            .setTokenIds(TokenIds.newBuilder().addAllIds(prompt).addAllIds(ids))
            .setSampling(SamplingOptions.newBuilder().setTemperature(0)) // else what follows is another sample
            .setStop(StopOptions.newBuilder().setMaxTokens(maxTokens - ids.size()))
            .setOutput(OutputOptions.newBuilder().setIds(true))
            .setTimeBudget(
                Duration.newBuilder().setSeconds(budget / 1000).setNanos((int) (budget % 1000) * 1_000_000))
            .build();
    Iterator<GenerateResponse> events = stub.generate(request);
    while (events.hasNext()) {
      GenerateResponse event = events.next();
      ids.addAll(event.getDelta().getIdsList());
      show(event.getDelta().getText());
      if (event.hasFinished()) reason = event.getFinished().getReason();
    }
  }

  private void show(String text) {
    shown += text;
    OUT.print(text);
    OUT.flush();
  }

  /** Shows what has come as ids and not yet as text. A character that came by half is generated anew. */
  private void mendText() {
    String text = shown;
    for (int tries = 0; tries < 4; ++tries) {
      TokenIds received = TokenIds.newBuilder().addAllIds(ids).build();
      text = stub.detokenize(DetokenizeRequest.newBuilder().setTokenIds(received).build()).getText();
      if (!text.endsWith("\ufffd")) break;
      ids.remove(ids.size() - 1);
    }
    show(text.substring(shown.length()));
  }

  public static void main(String[] arguments) throws Exception {
    Map<String, String> options = new HashMap<>(); // --NAME VALUE ... PROMPT
    for (int i = 0; i + 2 < arguments.length; i += 2) options.put(arguments[i].substring(2), arguments[i + 1]);
    String text = arguments[arguments.length - 1];

    ManagedChannel channel = connect(options);
    ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
    double timeout = Double.parseDouble(options.getOrDefault("timeout", "60"));
    // Every call made in this context ends by its deadline, retries included.
    Context.CancellableContext context =
        Context.current().withDeadlineAfter((long) (1000 * timeout), TimeUnit.MILLISECONDS, timer);
    // Ctrl-C cancels the call, and the server frees what the request held.
    Runtime.getRuntime().addShutdownHook(new Thread(() -> context.cancel(null)));
    Context before = context.attach();
    try {
      Generate generate =
          new Generate(
              makeStub(channel, options.get("api-key-file")),
              text,
              Integer.parseInt(options.getOrDefault("max-tokens", "64")),
              Double.parseDouble(options.getOrDefault("time-budget", "3600")));
      generate.run();
      OUT.println();
      FinishReason reason = generate.reason == null ? FinishReason.FINISH_REASON_LENGTH : generate.reason;
      say(reason + ", " + generate.ids.size() + " tokens");
    } catch (StatusRuntimeException error) {
      say(Failure.of(error).toString());
      System.exit(1);
    } finally {
      context.detach(before);
      context.cancel(null);
      timer.shutdown();
      channel.shutdown().awaitTermination(5, TimeUnit.SECONDS);
    }
  }
}
