// A check of drawings.
#ifndef YOIO_TESTS_CLIENT_WELL_FORMED_H_
#define YOIO_TESTS_CLIENT_WELL_FORMED_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace yoio {

// Walks over the tags of `xml` and checks that each one that opens is closed, in order.
inline void ExpectWellFormed(const std::string& xml) {
  std::vector<std::string> open;
  for (size_t at = xml.find('<'); at != std::string::npos; at = xml.find('<', at)) {
    const size_t end = xml.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = xml.substr(at + 1, end - at - 1);
    ASSERT_EQ(tag.find('<'), std::string::npos) << tag;
    ASSERT_EQ(std::count(tag.begin(), tag.end(), '"') % 2, 0) << tag;
    if (tag.front() == '/') {
      ASSERT_FALSE(open.empty());
      EXPECT_EQ(open.back(), tag.substr(1));
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(tag.substr(0, tag.find(' ')));
    }
    at = end;
  }
  EXPECT_TRUE(open.empty());
}

}  // namespace yoio

#endif  // YOIO_TESTS_CLIENT_WELL_FORMED_H_
