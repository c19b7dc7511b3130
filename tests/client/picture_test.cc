// What `yoio trace` and `yoio debug` draw.
#include <gtest/gtest.h>
#include <pty.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "client/commands/bars.h"
#include "client/commands/request_picture.h"
#include "client/commands/seconds.h"
#include "client/commands/state_picture.h"
#include "client/commands/step_picture.h"
#include "client/commands/table.h"
#include "client/commands/traceparent.h"

namespace yoio {
namespace {

constexpr Terminal kAscii{80, /*unicode=*/false, /*color=*/false};
constexpr Terminal kUnicode{80, /*unicode=*/true, /*color=*/false};

google::protobuf::Timestamp At(double seconds) {
  const google::protobuf::Duration since = ToProto(seconds);
  google::protobuf::Timestamp time;
  time.set_seconds(1'700'000'000 + since.seconds());
  time.set_nanos(since.nanos());
  return time;
}

class TerminalTest : public testing::Test {
 protected:
  TerminalTest() {
    for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG", "NO_COLOR"}) unsetenv(name);
    setenv("TERM", "xterm", 1);
  }

  // What is drawn for a terminal of `columns`.
  static Terminal WithColumns(unsigned short columns) {
    winsize size{};
    size.ws_row = 24;
    size.ws_col = columns;
    int ours = -1, its = -1;
    EXPECT_EQ(openpty(&ours, &its, nullptr, nullptr, &size), 0);
    const Terminal terminal = TerminalOf(its, /*ascii=*/false);
    close(ours);
    close(its);
    return terminal;
  }
};

TEST_F(TerminalTest, ATerminalSaysHowWideItIs) {
  EXPECT_EQ(WithColumns(132).width, 132);
  EXPECT_EQ(WithColumns(20).width, 60);
  EXPECT_EQ(WithColumns(0).width, 80);
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  EXPECT_EQ(TerminalOf(pipe_ends[1], false).width, 80);
  EXPECT_FALSE(TerminalOf(pipe_ends[1], false).color);
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

TEST_F(TerminalTest, ColorsCanBeTurnedOff) {
  EXPECT_TRUE(WithColumns(80).color);
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(WithColumns(80).color);
  setenv("TERM", "xterm", 1);
  setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(WithColumns(80).color);
}

TEST_F(TerminalTest, TheLocaleTellsWhetherThereIsUnicode) {
  EXPECT_FALSE(WithColumns(80).unicode);
  setenv("LANG", "en_US.UTF-8", 1);
  EXPECT_TRUE(WithColumns(80).unicode);
  EXPECT_FALSE(TerminalOf(STDOUT_FILENO, /*ascii=*/true).unicode);
  setenv("LC_ALL", "C", 1);
  EXPECT_FALSE(WithColumns(80).unicode);
  setenv("LC_ALL", "C.utf8", 1);
  EXPECT_TRUE(WithColumns(80).unicode);
}

TEST(TimeScale, LabelsStandAtTheirTicks) {
  const TimeScale scale(1.8, 40, kAscii);
  EXPECT_EQ(scale.Labels(), "0         500 ms    1 s       1.5 s  2 s");
  EXPECT_EQ(scale.Ruler(), "|---------+---------+---------+--------|");
  EXPECT_EQ(TimeScale(1.8, 40, kUnicode).Ruler(), "├─────────┼─────────┼─────────┼────────┤");
}

TEST(TimeScale, LabelsWithoutRoomAreLeftOut) {
  EXPECT_EQ(TimeScale(1.8, 12, kAscii).Labels(), "0        2 s");
  EXPECT_EQ(TimeScale(0.012, 24, kAscii).Labels(), "0       5 ms       15 ms");
}

TEST(TimeScale, BarsGoFromBeginToEnd) {
  const TimeScale ascii(2, 40, kAscii), unicode(2, 40, kUnicode);
  EXPECT_EQ(ascii.Bar(0, 2, Color::kNone), std::string(40, '#'));
  EXPECT_EQ(ascii.Bar(0.5, 1, Color::kNone), "          ##########");
  EXPECT_EQ(ascii.Bar(1, 1.001, Color::kNone), "                    |");
  EXPECT_EQ(unicode.Bar(0.5, 0.7, Color::kNone), "          ████");
  EXPECT_EQ(unicode.Bar(0.525, 0.71875, Color::kNone), "          ▐███▍");
  EXPECT_EQ(unicode.Bar(0.5, 0.50001, Color::kNone), "          ▏");
  EXPECT_EQ(unicode.Shade(0.5, 0.7, Color::kNone), "          ░░░░");
  EXPECT_EQ(ascii.Shade(0.5, 0.5, Color::kNone), "          .");
}

TEST(TimeScale, WhatIsPastTheAxisIsDrawnAtItsEnd) {
  const TimeScale scale(2, 10, kAscii);
  EXPECT_EQ(scale.Bar(5, 6, Color::kNone), "         #");
  EXPECT_EQ(scale.Shade(5, 6, Color::kNone), "         .");
  EXPECT_EQ(scale.Bar(1, 6, Color::kNone), "     #####");
}

TEST(TimeScale, SegmentsFillWhatTheyAddUpTo) {
  const TimeScale scale(2, 20, kAscii);
  const std::vector<Segment> segments = {{0.26, "a"}, {0.02, "b"}, {0.52, "c"}};
  EXPECT_EQ(scale.Stack(segments), "aaaccccc");
  EXPECT_EQ(scale.Stack(segments, /*padded=*/true), "aaaccccc            ");
  EXPECT_EQ(scale.Stack({{0.001, "a"}, {0.002, "b"}}), "b");
  EXPECT_EQ(scale.Stack({{0, "a"}}), "");
}

TEST(TimeScale, ColorsAreForTerminalsThatShowThem) {
  const Terminal colored{80, true, true};
  EXPECT_EQ(TimeScale(2, 10, colored).Bar(0, 1, Color::kRed), "\033[31m█████\033[0m");
  EXPECT_EQ(TimeScale(2, 10, colored).Bar(0, 1, Color::kNone), "█████");
}

TEST(Table, NumbersStandToTheRight) {
  Table table({{"name"}, {"count", true}, {"remark"}});
  table.Add({"a", "5"});
  table.Add({"longer", "1,234,567", "yes"});
  table.Append(0, "█");
  EXPECT_EQ(table.WidthOf(2), 8 + 11);
  EXPECT_EQ(table.Text(),
            "name        count  remark\n"
            "a               5  █\n"
            "longer  1,234,567  yes\n");
}

TEST(Seconds, TimesAreReadAsPeopleWriteThem) {
  EXPECT_EQ(ParseSeconds("5m"), 300);
  EXPECT_EQ(ParseSeconds("1h30m"), 5400);
  EXPECT_EQ(ParseSeconds("250ms"), 0.25);
  for (const char* wrong : {"", "5", "0s", "-5m", "soon", "inf"})
    EXPECT_EQ(ParseSeconds(wrong), std::nullopt) << wrong;
}

TEST(Seconds, TimesAreWrittenWithThreeDigits) {
  EXPECT_EQ(Readable(0.00003), "0.03 ms");
  EXPECT_EQ(Readable(0.341), "341 ms");
  EXPECT_EQ(Readable(6.214), "6.21 s");
  EXPECT_EQ(Readable(0.0099999), "10.0 ms");
  EXPECT_EQ(Readable(0.0999999), "100 ms");
  EXPECT_EQ(Readable(0.9999), "1.00 s");
  EXPECT_EQ(Readable(At(0.25)), "2023-11-14 22:13:20.250 UTC");
}

TEST(Traceparent, ADrawnOneIsValidAndSampledAndNew) {
  const std::string one = DrawTraceparent(), other = DrawTraceparent();
  EXPECT_EQ(CheckTraceparent(one), "") << one;
  EXPECT_EQ(one.substr(53), "01");
  EXPECT_EQ(TraceIdOf(one), one.substr(3, 32));
  EXPECT_NE(TraceIdOf(one), TraceIdOf(other));
}

TEST(Traceparent, WrongOnesAreRefused) {
  const std::string trace(32, 'a'), span(16, 'b');
  EXPECT_EQ(CheckTraceparent("00-" + trace + "-" + span + "-00"), "");
  for (const std::string& wrong :
       {std::string(), trace, "01-" + trace + "-" + span + "-00",
        "00-" + std::string(32, '0') + "-" + span + "-01", "00-" + trace + "-" + std::string(16, '0') + "-01",
        "00-" + std::string(32, 'A') + "-" + span + "-01", "00-" + trace + "-" + span + "-01-more"}) {
    EXPECT_NE(CheckTraceparent(wrong), "") << wrong;
  }
}

// A request of 1.8 s that waited for blocks, stood still for a long step, and had a slow reader.
v1::RequestTrace Request() {
  v1::RequestTrace trace;
  trace.set_request_id("r-1");
  trace.set_tenant("blue");
  *trace.mutable_arrival() = At(0);
  trace.set_code(0);
  trace.mutable_usage()->set_prompt_tokens(8000);
  trace.mutable_usage()->set_cached_tokens(2000);
  trace.mutable_usage()->set_completion_tokens(21);
  v1::Timing& timing = *trace.mutable_timing();
  *timing.mutable_total() = ToProto(1.8);
  *timing.mutable_tokenize() = ToProto(0.01);
  *timing.mutable_queue() = ToProto(0.39);
  *timing.mutable_prefill() = ToProto(0.6);
  *timing.mutable_time_to_first_token() = ToProto(1.0);
  *timing.mutable_decode() = ToProto(0.7);
  *timing.mutable_deliver() = ToProto(0.1);
  *timing.mutable_time_per_output_token() = ToProto(0.035);
  *timing.mutable_longest_gap() = ToProto(0.5);
  timing.set_longest_gap_step(1007);
  *timing.mutable_blocked_on_client() = ToProto(0.05);
  *timing.mutable_waited()->mutable_blocks() = ToProto(0.3);
  *timing.mutable_waited()->mutable_token_budget() = ToProto(0.09);
  timing.set_prefill_chunks(3);
  timing.set_decode_steps(20);
  timing.set_queue_length_on_arrival(4);
  timing.set_queue_position_on_arrival(2);
  timing.set_preemptions(1);
  timing.set_recomputed_tokens(512);
  timing.set_trace_id("4bf92f3577b34da6a3ce929d0e0e4736");
  timing.set_server_version("0.1.0");
  return trace;
}

void AddRank(v1::StepTrace& step, int number, double self_decoder, double index_broadcast) {
  v1::RankTimes& rank = *step.add_ranks();
  rank.set_rank(number);
  *rank.mutable_total() = ToProto(self_decoder + index_broadcast);
  const std::pair<const char*, double> phases[] = {{"self_decoder", self_decoder},
                                                   {"index_broadcast", index_broadcast}};
  for (const auto& [name, seconds] : phases) {
    v1::PhaseTime& phase = *rank.add_phases();
    phase.set_phase(name);
    *phase.mutable_duration() = ToProto(seconds);
  }
  *rank.mutable_comm_wait() = ToProto(index_broadcast);
}

v1::StepTrace& AddStep(v1::RequestTrace& trace, int64_t number, double begin, double seconds) {
  v1::StepTrace& step = *trace.add_steps();
  step.set_step(number);
  *step.mutable_start() = At(begin);
  *step.mutable_duration() = ToProto(seconds);
  step.set_tokens(1);
  step.set_batch_tokens(2050);
  step.set_prompt_tokens(2048);
  step.set_batch_requests(3);
  step.set_waiting(7);
  step.set_free_blocks(1234);
  return step;
}

v1::RequestTrace RequestWithSteps() {
  v1::RequestTrace trace = Request();
  AddStep(trace, 1006, 1.0, 0.02);
  v1::StepTrace& slow = AddStep(trace, 1007, 1.05, 0.48);
  AddRank(slow, 0, 0.05, 0.42);
  AddRank(slow, 1, 0.45, 0.01);
  for (const auto& [id, tokens] : {std::pair{"r-1", 1}, {"short", 1}, {"long-prompt", 2048}}) {
    v1::StepMember& member = *slow.add_members();
    member.set_request_id(id);
    member.set_tokens(tokens);
  }
  AddStep(trace, 1008, 1.53, 0.03);
  return trace;
}

constexpr char kFacts[] = R"(
queue        2 ahead of it on arrival, 4 waiting
prefill      3 chunks, 10,000 tokens/s
decode       20 steps, 35.0 ms per token, 1 preemption, tokens computed again: 512
longest gap  500 ms, ended by step 1,007
served by    yoio-server 0.1.0
)";

TEST(RequestPicture, EveryPhaseHasABarAndEveryWaitAShade) {
  EXPECT_EQ(RequestPicture(RequestWithSteps(), kUnicode),
            std::string(R"(request r-1 of blue: OK, 8,000 prompt tokens (2,000 cached), 21 generated
arrived 2023-11-14 22:13:20.000 UTC, trace 4bf92f3577b34da6a3ce929d0e0e4736

                             0           500 ms       1 s         1.5 s     2 s
                             ├───────────┼────────────┼───────────┼───────────┤
tokenize            10.0 ms  ▎
queue                390 ms  ██████████
  for blocks         300 ms  ░░░░░░░░
  for step tokens   90.0 ms         ░░░
prefill              600 ms            ███████████████
decode               700 ms                           █████████████████▌
  for the client    50.0 ms                           ░
deliver              100 ms                                            ▐██
longest gap          500 ms                           ▕████████████▎
total                1.80 s
)") + kFacts);
}

TEST(RequestPicture, WithoutItsStepTheGapHasNoBarAndAsciiIsEnough) {
  EXPECT_EQ(RequestPicture(Request(), kAscii),
            std::string(R"(request r-1 of blue: OK, 8,000 prompt tokens (2,000 cached), 21 generated
arrived 2023-11-14 22:13:20.000 UTC, trace 4bf92f3577b34da6a3ce929d0e0e4736

                             0           500 ms       1 s         1.5 s     2 s
                             |-----------+------------+-----------+-----------|
tokenize            10.0 ms  |
queue                390 ms  ##########
  for blocks         300 ms  ........
  for step tokens   90.0 ms         ...
prefill              600 ms            ###############
decode               700 ms                           ##################
  for the client    50.0 ms                           .
deliver              100 ms                                            ###
total                1.80 s
)") + kFacts);
}

TEST(RequestPicture, WhatWasNotMeasuredIsLeftOut) {
  v1::RequestTrace trace;
  trace.set_request_id("r-2");
  trace.set_code(10);
  trace.set_reason("SLOW_READER");
  EXPECT_EQ(RequestPicture(trace, kAscii),
            "request r-2: ABORTED, SLOW_READER, 0 prompt tokens, 0 generated\n");
}

TEST(RequestTable, BarsShareOneAxis) {
  v1::RequestTrace live;
  live.set_request_id("live-one");
  v1::RequestTrace shorter = Request();
  shorter.set_request_id("r-2");
  shorter.mutable_timing()->mutable_decode()->Clear();
  *shorter.mutable_timing()->mutable_total() = ToProto(1.1);
  EXPECT_EQ(RequestTable({Request(), shorter, live}, kUnicode),
            R"(request   ended  prompt  output  first token     gap    total  0   500 ms   2 s
r-1       OK      8,000      21       1.00 s  500 ms   1.80 s  ░░░▓▓▓▓▓██████
r-2       OK      8,000      21       1.00 s  500 ms   1.10 s  ░░░▓▓▓▓▓▄
live-one  live        0       0                       0.00 ms
▀ tokenize  ░ queue  ▓ prefill  █ decode  ▄ deliver
)");
  EXPECT_EQ(RequestTable({Request()}, kAscii),
            R"(request  ended  prompt  output  first token     gap   total  0   500 ms     2 s
r-1      OK      8,000      21       1.00 s  500 ms  1.80 s  ....=====######d
t tokenize  . queue  = prefill  # decode  d deliver
)");
}

TEST(SlowestSteps, ShowRanksPhasesAndWhoSharedThem) {
  EXPECT_EQ(SlowestSteps(RequestWithSteps(), 2, kUnicode), R"(the slowest 2 of 3 steps, a bar for each rank
s self_decoder  b index_broadcast

step 1,007: 480 ms, 1.05 s after arrival  <- ended the longest gap
  tokens 2,050, of prompts 2,048, its own 1; requests waiting 7; free blocks 1,234
  rank 0    470 ms  ssbbbbbbbbbbbbbbbbbbb   index_broadcast 420 ms, collectives 420 ms
  rank 1    460 ms  ssssssssssssssssssss    self_decoder 450 ms, collectives 10.0 ms
  shared with long-prompt 2,048 tokens, short 1

step 1,008: 30.0 ms, 1.53 s after arrival
  tokens 2,050, of prompts 2,048, its own 1; requests waiting 7; free blocks 1,234
  shared with 2 no longer known
)");
}

TEST(SlowestSteps, TheOneThatEndedTheGapIsAlwaysThere) {
  v1::RequestTrace trace = RequestWithSteps();
  trace.mutable_timing()->set_longest_gap_step(1006);
  const std::string picture = SlowestSteps(trace, 1, kAscii);
  EXPECT_NE(picture.find("the slowest 2 of 3 steps"), std::string::npos) << picture;
  EXPECT_LT(picture.find("step 1,006: 20.0 ms, 1.00 s after arrival  <- ended the longest gap"),
            picture.find("step 1,007: 480 ms"))
      << picture;
}

TEST(SlowestSteps, ALongListOfSharersIsCut) {
  v1::RequestTrace trace = Request();
  v1::StepTrace& step = AddStep(trace, 9, 0.1, 0.2);
  step.set_batch_requests(64);
  for (int i = 0; i < 63; ++i) {
    v1::StepMember& member = *step.add_members();
    member.set_request_id("request-" + std::to_string(100 + i));
    member.set_tokens(i == 40 ? 700 : 1);
  }
  const std::string picture = SlowestSteps(trace, 10, kAscii);
  EXPECT_NE(picture.find("\n  shared with request-140 700 tokens, request-100 1 and 61 more\n"),
            std::string::npos)
      << picture;
}

TEST(SlowestSteps, ThereMayBeNone) { EXPECT_EQ(SlowestSteps(Request(), 10, kAscii), ""); }

TEST(StatePicture, TheOldestRequestComesFirst) {
  v1::EngineState engine;
  *engine.mutable_time() = At(0);
  engine.set_step(1007);
  engine.set_running(1);
  engine.set_waiting(1);
  engine.set_waiting_tokens(40'000);
  engine.set_free_blocks(87);
  engine.set_cached_blocks(12);
  engine.set_total_blocks(1024);
  engine.set_draining(true);
  v1::RankState* rank = engine.add_ranks();
  rank->set_ended_step(1006);
  rank->set_step(1007);
  rank->set_phase("index_broadcast");
  rank->set_collective("broadcast");
  engine.add_ranks()->set_rank(1);
  v1::RequestState young, old;
  young.set_request_id("young");
  young.set_tenant("blue");
  *young.mutable_age() = ToProto(0.5);
  young.set_phase("queued");
  young.set_queue_position(3);
  young.set_prompt_tokens(40'000);
  old = young;
  old.set_request_id("old");
  *old.mutable_age() = ToProto(12.5);
  old.set_phase("decode");
  old.set_prompt_tokens_done(40'000);
  old.set_completion_tokens(17);
  old.set_blocks(620);
  old.set_unread_bytes(1536);
  EXPECT_EQ(StatePicture(engine, {young, old}),
            R"(state of       2023-11-14 22:13:20.000 UTC  draining: new requests are refused
step           1,007                        begun last
running        1                            requests
waiting        1                            requests, 40,000 tokens
free blocks    87                           of 1,024
cached blocks  12                           held by the prefix cache alone

rank  ended step  in step  phase            collective
   0       1,006    1,007  index_broadcast  broadcast
   1        none

request  tenant  phase      age  ahead    prompt done  output  blocks  unread bytes
old      blue    decode  12.5 s         40,000/40,000      17     620         1,536
young    blue    queued  500 ms      3       0/40,000       0       0             0
)");
  const std::string idle = StatePicture({}, {});
  EXPECT_EQ(idle.substr(idle.rfind("\n\n")), "\n\nno live requests\n");
}

}  // namespace
}  // namespace yoio
