// CHECK macros: a broken invariant prints where, what and both values, then aborts.
//
// They are for programming errors only. Anything a user, a file or a peer can cause is an absl::Status.
#ifndef YOIO_BASE_CHECK_H_
#define YOIO_BASE_CHECK_H_

#include <sstream>
#include <string>

namespace yoio::internal {

// Collects the message of a failed check and aborts when destroyed.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition);
  [[noreturn]] ~CheckFailure();
  std::ostream& stream() { return stream_; }

 private:
  std::ostringstream stream_;
};

// Turns a streamed expression into void, so that both arms of the conditional operator agree.
struct Voidify {
  void operator&(std::ostream&) const {}
};

template <typename A, typename B>
std::string CheckValues(const A& a, const B& b) {
  std::ostringstream out;
  out << " (" << a << " vs. " << b << ") ";
  return out.str();
}

}  // namespace yoio::internal

#define YOIO_CHECK(condition)                 \
  (condition) ? static_cast<void>(0)          \
              : ::yoio::internal::Voidify() & \
                    ::yoio::internal::CheckFailure(__FILE__, __LINE__, #condition).stream()

#define YOIO_CHECK_OP(a, op, b) YOIO_CHECK((a)op(b)) << ::yoio::internal::CheckValues((a), (b))
#define YOIO_CHECK_EQ(a, b) YOIO_CHECK_OP(a, ==, b)
#define YOIO_CHECK_NE(a, b) YOIO_CHECK_OP(a, !=, b)
#define YOIO_CHECK_LT(a, b) YOIO_CHECK_OP(a, <, b)
#define YOIO_CHECK_LE(a, b) YOIO_CHECK_OP(a, <=, b)
#define YOIO_CHECK_GT(a, b) YOIO_CHECK_OP(a, >, b)
#define YOIO_CHECK_GE(a, b) YOIO_CHECK_OP(a, >=, b)

#endif  // YOIO_BASE_CHECK_H_
