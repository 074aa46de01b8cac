# Find TensorRT's headers and decide whether the plugin is built: sets `tensorrt` (as 10.3, or nothing), `major` and TensorRT_INCLUDE_DIR.
# Nothing of TensorRT is linked, and nothing is downloaded. Runs by itself too: cmake -DTensorRT_ROOT=… -P tensorrt_headers.cmake
set(tensorrt "")
if(CSTL_EDGE_PLUGIN STREQUAL OFF)
  message(STATUS "TensorRT plugin: not wanted, only the kernel library is built")
  return()
endif()
string(CONCAT remedy "Install TensorRT's headers (sudo apt install libnvinfer-headers-dev), or give as TensorRT_ROOT "
  "(cstl-edge plugin build --tensorrt-root) an unpacked TensorRT archive, or your checkout of github.com/NVIDIA/TensorRT at the "
  "tag of your version: v10.3.0, v10.9.0, v10.16, v11.0 and v11.1 have been compiled")

if(TensorRT_ROOT)
  find_path(TensorRT_INCLUDE_DIR NvInferRuntime.h PATHS "${TensorRT_ROOT}" NO_DEFAULT_PATH NO_CACHE
    PATH_SUFFIXES include include/${CMAKE_LIBRARY_ARCHITECTURE})
  if(NOT TensorRT_INCLUDE_DIR)
    message(FATAL_ERROR "expected NvInferRuntime.h in ${TensorRT_ROOT}/include; it is not there. ${remedy}")
  endif()
else()
  find_path(TensorRT_INCLUDE_DIR NvInferRuntime.h PATHS /usr/local/tensorrt /opt/tensorrt PATH_SUFFIXES include NO_CACHE)
endif()

if(TensorRT_INCLUDE_DIR)
  get_filename_component(TensorRT_INCLUDE_DIR "${TensorRT_INCLUDE_DIR}" ABSOLUTE)
  set(lines "")
  if(EXISTS "${TensorRT_INCLUDE_DIR}/NvInferVersion.h")
    file(STRINGS "${TensorRT_INCLUDE_DIR}/NvInferVersion.h" lines REGEX "define (NV_TENSORRT|TRT)_(MAJOR|MINOR)")
  endif()
  if(NOT lines MATCHES "_MAJOR[A-Z_]* +([0-9]+)") # since 10.13 NV_TENSORRT_MAJOR is another macro's name
    message(FATAL_ERROR "expected a version in ${TensorRT_INCLUDE_DIR}/NvInferVersion.h; there is none. ${remedy}")
  endif()
  set(major ${CMAKE_MATCH_1})
  string(REGEX MATCH "_MINOR[A-Z_]* +([0-9]+)" _ "${lines}")
  set(tensorrt ${major}.${CMAKE_MATCH_1})
  if(TensorRT_ROOT AND EXISTS "${TensorRT_ROOT}/VERSION") # of a checkout, where headers of another tag may have stayed
    file(STRINGS "${TensorRT_ROOT}/VERSION" release LIMIT_COUNT 1)
    if(NOT "${release}." MATCHES "^${major}\\.${CMAKE_MATCH_1}\\.")
      message(FATAL_ERROR "expected the headers of TensorRT ${release}, as ${TensorRT_ROOT}/VERSION says; those in "
        "${TensorRT_INCLUDE_DIR} are of ${tensorrt}. Check the whole tag out again")
    endif()
  endif()
  message(STATUS "TensorRT ${tensorrt}: headers in ${TensorRT_INCLUDE_DIR}")
endif()

if(tensorrt AND tensorrt VERSION_GREATER_EQUAL 10.3)
  message(STATUS "TensorRT plugin: built for TensorRT ${major}")
else()
  set(found "found ${tensorrt}")
  if(NOT tensorrt)
    set(found "found none")
  endif()
  if(NOT CSTL_EDGE_PLUGIN STREQUAL AUTO)
    message(FATAL_ERROR "expected TensorRT's headers, 10.3 or newer; ${found}. ${remedy}")
  endif()
  set(tensorrt "")
  message(STATUS "TensorRT plugin: left out, only the kernel library is built: expected TensorRT's headers, 10.3 or newer; "
    "${found}. ${remedy}")
endif()
