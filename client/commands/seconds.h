// Lengths of time as people and messages write them.
#ifndef YOIO_CLIENT_COMMANDS_SECONDS_H_
#define YOIO_CLIENT_COMMANDS_SECONDS_H_

#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>

#include <optional>
#include <string>

namespace yoio {

double Seconds(const google::protobuf::Duration& duration);
// From `begin` to `end`.
double SecondsBetween(const google::protobuf::Timestamp& begin, const google::protobuf::Timestamp& end);

google::protobuf::Duration ToProto(double seconds);

// "5m", "90s", "1h30m" or "250ms". Absent when `text` is no time above 0.
std::optional<double> ParseSeconds(const std::string& text);

// Three digits in the unit that fits: "6.21 s", "341 ms", "9.84 ms".
std::string Readable(double seconds);

// "2026-11-23 03:04:05.123 UTC".
std::string Readable(const google::protobuf::Timestamp& time);

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_SECONDS_H_
