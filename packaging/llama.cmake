# Included by CMake in llama.cpp's project (CMAKE_PROJECT_llama.cpp_INCLUDE). llama-cpp-python turns
# on llama.cpp's library of command-line helpers, which it neither installs nor loads: 57 of the 140
# build steps, and more than half of the time.
set(LLAMA_BUILD_COMMON OFF CACHE BOOL "" FORCE)
