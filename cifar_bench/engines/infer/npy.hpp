// NumPy's file format (numpy.lib.format, version 1.0).
#pragma once

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

// `type` is NumPy's name of Number: "<i8", say.
template <typename Number>
void save(const std::filesystem::path& path, const std::string& type, const std::vector<Number>& values) {
    std::string header = "{'descr': '" + type + "', 'fortran_order': False, 'shape': (" + std::to_string(values.size()) + ",)}";
    header.resize((10 + header.size() + 64) / 64 * 64 - 11, ' ');
    header += '\n';
    const char start[] = {'\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0, static_cast<char>(header.size() & 0xff),
                          static_cast<char>(header.size() >> 8)};
    std::ofstream file(path, std::ios::binary);
    file.write(start, sizeof start);
    file << header;
    file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(Number)));
    if (!file.flush()) throw std::runtime_error(path.string() + " cannot be written.");
}
