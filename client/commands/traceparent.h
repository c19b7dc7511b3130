// The W3C Trace Context of a call.
#ifndef YOIO_CLIENT_COMMANDS_TRACEPARENT_H_
#define YOIO_CLIENT_COMMANDS_TRACEPARENT_H_

#include <string>

namespace yoio {

// A new random trace that asks to be sampled: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".
std::string DrawTraceparent();

// Empty when `value` is a valid traceparent of version 00, else what is wrong with it.
std::string CheckTraceparent(const std::string& value);

// The 32 digits of the trace; `traceparent` is valid.
std::string TraceIdOf(const std::string& traceparent);

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_TRACEPARENT_H_
