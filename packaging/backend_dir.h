// Included into the ggml library of a portable build. Makes ggml look for its CPU back ends in the
// folder of the library itself, wherever the wheel is installed, instead of in that of Python.
#pragma once
#include <dlfcn.h>
#include <string>

static std::string ggml_own_folder() {
    Dl_info info;
    if (dladdr(reinterpret_cast<void *>(&ggml_own_folder), &info) == 0) {
        return ".";
    }
    const std::string path = info.dli_fname;
    return path.substr(0, path.rfind('/'));
}

#define GGML_BACKEND_DIR ggml_own_folder()
