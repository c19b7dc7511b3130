#include "server/thread_stacks.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <map>
#include <memory>
#include <string_view>
#include <thread>

#include "absl/debugging/symbolize.h"
#include "absl/strings/str_format.h"

namespace yoio {
namespace {

constexpr int kMostThreads = 1024;
constexpr int kMostFrames = 48;
constexpr Duration kPoll = std::chrono::milliseconds(1);

// What a signal handler may touch is static and lock-free. Each interrupted thread has a slot of its own;
// `state` says to which round of questions it belongs, so that an answer that comes too late changes nothing.
struct Slot {
  std::atomic<uint32_t> state{0};
  int depth = 0;
  std::array<uintptr_t, kMostFrames> frames;
};
std::array<Slot, kMostThreads> slots;
static_assert(std::atomic<uint32_t>::is_always_lock_free);
uint32_t rounds = 0;

enum : uint32_t { kAsked, kAnswering, kAnswered };
uint32_t StateOf(uint32_t round, uint32_t progress) { return round * 4 + progress; }

struct Walk {
  Slot& slot;
  bool interrupted;  // the frames of the handler are behind
};

// The unwinder of the C++ runtime needs no frame pointers, which optimised code lacks, and takes neither
// locks nor memory here: it finds its tables through the loader's lock-free index.
_Unwind_Reason_Code NoteFrame(_Unwind_Context* context, void* argument) {
  Walk& walk = *static_cast<Walk*>(argument);
  int exact = 0;  // the frame that a signal has interrupted
  const uintptr_t address = _Unwind_GetIPInfo(context, &exact);
  walk.interrupted |= exact != 0;
  if (!walk.interrupted) return _URC_NO_REASON;
  if (address == 0 || walk.slot.depth == kMostFrames) return _URC_END_OF_STACK;
  walk.slot.frames[walk.slot.depth++] = exact != 0 ? address + 1 : address;
  return _URC_NO_REASON;
}

void WalkInto(Slot& slot, bool in_handler) {
  slot.depth = 0;
  Walk walk{slot, !in_handler};
  _Unwind_Backtrace(NoteFrame, &walk);
}

void Answer(int, siginfo_t* info, void*) {
  const int saved_errno = errno;
  const uint32_t question = static_cast<uint32_t>(info->si_value.sival_int);
  const uint32_t index = question % kMostThreads;
  const uint32_t round = question / kMostThreads;
  uint32_t expected = StateOf(round, kAsked);
  if (slots[index].state.compare_exchange_strong(expected, StateOf(round, kAnswering))) {
    WalkInto(slots[index], /*in_handler=*/true);
    expected = StateOf(round, kAnswering);
    slots[index].state.compare_exchange_strong(expected, StateOf(round, kAnswered));
  }
  errno = saved_errno;
}

int Signal() { return SIGRTMIN + 6; }

void Install() {
  struct sigaction action {};
  action.sa_sigaction = Answer;
  action.sa_flags = SA_RESTART | SA_SIGINFO | SA_ONSTACK;
  sigfillset(&action.sa_mask);
  sigaction(Signal(), &action, nullptr);
}

// Asks `thread` to fill the slot. False when there is no such thread any more.
bool Ask(int thread, uint32_t round, uint32_t index) {
  siginfo_t info{};
  info.si_code = SI_QUEUE;
  info.si_pid = getpid();
  info.si_uid = getuid();
  info.si_value.sival_int = static_cast<int>(round * kMostThreads + index);
  slots[index].state = StateOf(round, kAsked);
  return syscall(SYS_rt_tgsigqueueinfo, getpid(), thread, Signal(), &info) == 0;
}

// "libc.so.6+0x891f5".
std::string PlaceOf(uintptr_t address) {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(address), &info) == 0) return absl::StrFormat("0x%x", address);
  const std::string_view path = info.dli_fname;
  return absl::StrFormat("%s+0x%x", std::string(path.substr(path.rfind('/') + 1)),
                         address - reinterpret_cast<uintptr_t>(info.dli_fbase));
}

std::vector<int> ThreadsOfProcess() {
  std::vector<int> threads;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir("/proc/self/task"), closedir);
  if (directory == nullptr) return threads;
  while (const dirent* entry = readdir(directory.get())) {
    const int thread = std::atoi(entry->d_name);  // 0 for . and ..
    if (thread != 0 && threads.size() < kMostThreads) threads.push_back(thread);
  }
  return threads;
}

}  // namespace

std::vector<ThreadStack> CaptureThreadStacks(Duration patience) {
  Install();
  const TimePoint deadline = Clock::now() + patience;
  const uint32_t round = ++rounds;
  const std::vector<int> threads = ThreadsOfProcess();
  const int self = static_cast<int>(syscall(SYS_gettid));
  for (uint32_t i = 0; i < threads.size(); ++i) {
    if (threads[i] == self) {
      WalkInto(slots[i], /*in_handler=*/false);
      slots[i].state = StateOf(round, kAnswered);
    } else {
      slots[i].depth = 0;
      if (!Ask(threads[i], round, i)) slots[i].state = StateOf(round, kAnswered);  // it has ended meanwhile
    }
  }
  std::map<std::vector<uintptr_t>, std::vector<int>> by_frames;
  for (uint32_t i = 0; i < threads.size(); ++i) {
    const auto answered = [&] { return slots[i].state.load() == StateOf(round, kAnswered); };
    while (!answered() && Clock::now() < deadline) std::this_thread::sleep_for(kPoll);
    std::vector<uintptr_t> frames;
    if (answered()) frames.assign(slots[i].frames.begin(), slots[i].frames.begin() + slots[i].depth);
    by_frames[std::move(frames)].push_back(threads[i]);
  }
  std::vector<ThreadStack> stacks;
  for (auto& [frames, with_them] : by_frames) stacks.push_back({std::move(with_them), frames});
  return stacks;
}

std::vector<std::string> FunctionsOf(const ThreadStack& stack, TimePoint deadline) {
  std::vector<std::string> functions;
  for (const uintptr_t address : stack.frames) {
    std::array<char, 256> name;
    // A return address may lie behind the end of the function that called.
    const bool found = Clock::now() < deadline &&
                       absl::Symbolize(reinterpret_cast<void*>(address - 1), name.data(), name.size());
    functions.push_back(found ? std::string(name.data()) : PlaceOf(address));
  }
  return functions;
}

}  // namespace yoio
