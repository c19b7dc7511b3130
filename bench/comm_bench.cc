// Collectives between the GPUs of this machine, one thread a rank, as a step runs them: in captured graphs.
//
//   comm_bench [--ranks N] [--only TEXT] [--json FILE]
//
// Names carry the number of ranks: all-reduce/2/64KiB, all-reduce-norm/2/32x4096 (32 rows of 4096), and
// beside the latter, as all-reduce-norm-composed/..., the same of an all-reduce and a kernel for the rest. A
// time is that of one collective in a graph of many, of the slowest rank, the median over replays. Inputs of
// the small ones are warm in L2, where the product before leaves them; larger ones do not fit there. The
// floor is the bytes that a rank must send at the bandwidth of NVLink 4 in one direction; there is none below
// a microsecond, where latency is all that counts. Sums grow with every replay and overflow: the time of an
// addition does not depend on it.
#include <nccl.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/cpu_relax.h"
#include "bench/report.h"
#include "engine/comm/communicator.h"

namespace yoio::bench {
namespace {

using kernels::Buffer;

constexpr double kLinkBandwidth = 450e9;  // bytes per second
constexpr double kGraphSeconds = 2e-3;    // so long that launching the graph does not show
constexpr int kProbeCalls = 20;
constexpr int kMostCalls = 400;
constexpr int kReplays = 25;
constexpr size_t kMostBytes = size_t{64} << 20;
constexpr int kMostHidden = 4096, kMostRows = 8192;

template <typename T>
T Must(absl::StatusOr<T> value) {
  YOIO_CHECK(value.ok()) << value.status().ToString();
  return *std::move(value);
}
void Require(const absl::Status& status) { YOIO_CHECK(status.ok()) << status.ToString(); }

// Where the threads of all ranks wait for each other, awake: they start a replay together.
class StartLine {
 public:
  explicit StartLine(int world) : world_(world) {}
  void Wait() {
    const int turn = arrived_.fetch_add(1) / world_;
    while (arrived_.load() < (turn + 1) * world_) CpuRelax();
  }

 private:
  const int world_;
  std::atomic<int> arrived_{0};
};

// One rank, on its thread.
struct Rank {
  Communicator& comm;
  kernels::Backend& backend;
  std::unique_ptr<kernels::Stream> stream;
  Buffer data;            // [kMostBytes * world]: what collectives work on
  Buffer x, out, weight;  // of the reduction with residual and norm, whose delta is `data`
};

Rank MakeRank(Communicator& comm, kernels::Backend& backend) {
  Rank rank{comm, backend, Must(backend.NewStream(1)), {}, {}, {}, {}};
  const auto allocate = [&](size_t bytes, int byte) {
    Buffer buffer = Must(backend.Allocate(bytes));
    backend.Fill(buffer.data(), byte, bytes, *rank.stream);
    return buffer;
  };
  rank.data = allocate(kMostBytes * comm.world(), 0);
  backend.Fill(rank.data.data(), 0x3c, size_t{kMostRows} * kMostHidden * 2, *rank.stream);
  rank.x = allocate(size_t{kMostRows} * kMostHidden * sizeof(float), 0);
  rank.out = allocate(size_t{kMostRows} * kMostHidden * 2, 0);
  rank.weight = allocate(kMostHidden * sizeof(float), 0x3c);
  Require(backend.Synchronize(*rank.stream));
  return rank;
}

struct Case {
  std::string name;
  double sent_bytes;  // by a rank
  std::function<absl::Status(Rank&)> queue;
};

std::string SizeName(size_t bytes) {
  return bytes >= (1u << 20) ? absl::StrCat(bytes >> 20, "MiB") : absl::StrCat(bytes >> 10, "KiB");
}

kernels::ResidualRmsNormArgs NormArgs(const Rank& rank, int rows, int hidden) {
  return {.x = rank.x.As<float>(),
          .delta = rank.data.As<kernels::Activation>(),
          .weight = rank.weight.As<float>(),
          .eps = 1e-5f,
          .num_rows = rows,
          .hidden = hidden,
          .out = rank.out.As<kernels::Activation>()};
}

std::vector<Case> Cases(int world) {
  std::vector<Case> cases;
  const double share = (world - 1.0) / world;
  for (const size_t bytes : {size_t{8} << 10, size_t{64} << 10, size_t{256} << 10}) {
    cases.push_back({absl::StrCat("broadcast/", world, "/", SizeName(bytes)), static_cast<double>(bytes),
                     [=](Rank& rank) {
                       return rank.comm.Broadcast({rank.data.As<std::byte>(), bytes}, 0, *rank.stream);
                     }});
  }
  for (size_t bytes = size_t{8} << 10; bytes <= kMostBytes; bytes *= bytes < (1u << 20) ? 2 : 4) {
    cases.push_back(
        {absl::StrCat("all-reduce/", world, "/", SizeName(bytes)), 2 * share * bytes, [=](Rank& rank) {
           return rank.comm.AllReduce(rank.data.data(), bytes / 2, kernels::DType::kBF16, *rank.stream);
         }});
  }
  for (const size_t bytes : {size_t{8} << 10, size_t{64} << 10, size_t{256} << 10, size_t{1} << 20}) {
    cases.push_back(
        {absl::StrCat("all-gather/", world, "/", SizeName(bytes)), (world - 1.0) * bytes, [=](Rank& rank) {
           const std::span<std::byte> all(rank.data.As<std::byte>(), bytes * world);
           return rank.comm.AllGather(all.subspan(rank.comm.rank() * bytes, bytes), all, *rank.stream);
         }});
  }
  for (const int hidden : {4096, 2560}) {
    for (const int rows : {1, 2, 4, 8, 16, 32, 48, 64, 128, 256, 512, 1024, 2048, 8192}) {
      const std::string place = absl::StrCat("/", world, "/", rows, "x", hidden);
      const double sent = 2 * share * rows * hidden * 2;
      cases.push_back({"all-reduce-norm" + place, sent, [=](Rank& rank) {
                         return rank.comm.AllReduceResidualNorm(NormArgs(rank, rows, hidden),
                                                                rank.data.As<kernels::Activation>(),
                                                                rank.backend, *rank.stream);
                       }});
      cases.push_back({"all-reduce-norm-composed" + place, sent, [=](Rank& rank) {
                         return rank.comm.Communicator::AllReduceResidualNorm(
                             NormArgs(rank, rows, hidden), rank.data.As<kernels::Activation>(), rank.backend,
                             *rank.stream);
                       }});
    }
  }
  return cases;
}

// Median over replays of a graph of `calls` calls.
double SecondsOfReplay(Rank& rank, const Case& measured, int calls, StartLine& line) {
  rank.backend.BeginCapture(*rank.stream);
  for (int i = 0; i < calls; ++i) Require(measured.queue(rank));
  const auto graph = Must(rank.backend.EndCapture(*rank.stream));
  std::vector<double> seconds;
  for (int replay = 0; replay < kReplays; ++replay) {
    line.Wait();
    const TimePoint begin = Clock::now();
    rank.backend.Replay(*graph, *rank.stream);
    Require(rank.backend.Synchronize(*rank.stream));
    seconds.push_back(ToSeconds(Clock::now() - begin));
  }
  std::nth_element(seconds.begin(), seconds.begin() + kReplays / 2, seconds.end());
  return seconds[kReplays / 2];
}

// What the threads of the ranks share.
struct Run {
  explicit Run(int world) : cases(Cases(world)), line(world), seconds(world) {}

  std::vector<Case> cases;
  StartLine line;
  std::atomic<int> calls{0};    // of a graph; rank 0 decides
  std::vector<double> seconds;  // of a call, by rank
};

// The whole life of a rank.
void Work(Communicator& comm, kernels::Backend& backend, Run& run, Report& report) {
  Rank rank = MakeRank(comm, backend);
  for (const Case& measured : run.cases) {
    const double probe = SecondsOfReplay(rank, measured, kProbeCalls, run.line) / kProbeCalls;
    if (comm.rank() == 0) {
      run.calls = std::clamp(static_cast<int>(kGraphSeconds / probe), kProbeCalls, kMostCalls);
    }
    run.line.Wait();
    const int calls = run.calls;
    run.seconds[comm.rank()] = SecondsOfReplay(rank, measured, calls, run.line) / calls;
    run.line.Wait();
    if (comm.rank() != 0) continue;
    const double slowest = *std::max_element(run.seconds.begin(), run.seconds.end());
    const double floor = measured.sent_bytes / kLinkBandwidth * 1e6;
    report.Add({measured.name, slowest * 1e6, "us", floor < 1 ? 0 : floor});
  }
}

// "NCCL 2.28.9".
std::string NcclName() {
  int version = 0;
  ncclGetVersion(&version);
  return absl::StrCat("NCCL ", version / 10000, ".", version / 100 % 100, ".", version % 100);
}

absl::StatusOr<std::unique_ptr<kernels::Backend>> OpenGpu(int device) {
  return kernels::MakeBackend(kernels::DeviceKind::kCuda, device);
}

int Main(int argc, char** argv) {
  std::vector<std::unique_ptr<kernels::Backend>> gpus;
  for (auto gpu = OpenGpu(0); gpu.ok(); gpu = OpenGpu(static_cast<int>(gpus.size()))) {
    gpus.push_back(*std::move(gpu));
  }
  int num_ranks = static_cast<int>(gpus.size());
  std::string only, json;
  CLI::App app("Collectives between the GPUs of this machine.");
  app.add_option("--ranks", num_ranks, "How many of the GPUs, at least two; default: all");
  app.add_option("--only", only, "Only what has this in its name");
  app.add_option("--json", json, "Write the results to this file");
  CLI11_PARSE(app, argc, argv);
  if (num_ranks < 2 || num_ranks > static_cast<int>(gpus.size())) {
    std::fprintf(stderr, "%d ranks on %zu GPUs: expected at least 2, and a GPU each\n", num_ranks,
                 gpus.size());
    return 1;
  }
  std::vector<kernels::Backend*> backends;
  for (int rank = 0; rank < num_ranks; ++rank) backends.push_back(gpus[rank].get());
  const auto rendezvous = Must(MakeRendezvous(CommunicatorKind::kNccl, ""));
  const auto comms = Must(MakeCommunicators({.kind = CommunicatorKind::kNccl,
                                             .world = num_ranks,
                                             .num_ranks = num_ranks,
                                             .ticket = rendezvous->ticket()},
                                            backends));
  Report report(absl::StrCat(num_ranks, " x ", std::string(backends[0]->name()), ", ", NcclName()), argc,
                argv);
  Run run(num_ranks);
  std::erase_if(run.cases,
                [&](const Case& measured) { return measured.name.find(only) == std::string::npos; });
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank) {
    threads.emplace_back([&, rank] { Work(*comms[rank], *backends[rank], run, report); });
  }
  for (std::thread& thread : threads) thread.join();
  return report.Write(json) ? 0 : 1;
}

}  // namespace
}  // namespace yoio::bench

int main(int argc, char** argv) { return yoio::bench::Main(argc, argv); }
