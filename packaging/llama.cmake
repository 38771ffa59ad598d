# Included by CMake in llama.cpp's project (CMAKE_PROJECT_llama.cpp_INCLUDE). llama-cpp-python turns
# on llama.cpp's library of command-line helpers, which it neither installs nor loads: 57 of the 140
# build steps, and more than half of the time.
set(LLAMA_BUILD_COMMON OFF CACHE BOOL "" FORCE)

# In a portable build the CPU back ends lie beside the library that loads them.
if(GGML_BACKEND_DL)
    cmake_language(EVAL CODE "cmake_language(DEFER CALL target_compile_options ggml PRIVATE
        [[SHELL:-include \"${CMAKE_CURRENT_LIST_DIR}/backend_dir.h\"]])")
endif()
