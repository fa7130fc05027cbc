# Finds onnxruntime's C headers, which neither its wheels nor most distributions carry, without asking anybody.
#
# Tried in this order; the first folder with the plugin-EP header and API >= ORT_MIN_API wins:
#   1. ORT_INCLUDE_DIR        cache variable, then environment variable
#   2. the system             /usr/include/onnxruntime and the like
#   3. the official release   ORT_ARCHIVE_URL, checked against ORT_ARCHIVE_SHA256
#   4. a Debian package       libonnxruntime-dev of ORT_DEBIAN_SUITE, through the mirror that apt is already set to
# What 3 and 4 fetch is unpacked into ORT_HEADERS_DIR, which all build folders of this tree share, and never installed.
#
# Makes the target onnxruntime::headers. Only headers are used: the EP gets its API table from the onnxruntime that
# loads it, and links nothing.

set(ORT_MIN_API 27) # the first with OrtEp::GetDefaultMemoryDevice; at run time the EP serves older runtimes too
set(ORT_INCLUDE_DIR "" CACHE PATH "Folder with onnxruntime_c_api.h and onnxruntime_ep_c_api.h; empty = find or fetch")
set(ORT_ARCHIVE_URL "https://github.com/microsoft/onnxruntime/releases/download/v1.27.1/onnxruntime-linux-x64-1.27.1.tgz"
    CACHE STRING "Release archive that the headers are taken from; they are the same on every architecture")
set(ORT_ARCHIVE_SHA256 "25b1ef1fea1acd210d63f8f24dc870ad6e077795ce1f54876252c6d3803c15af"
    CACHE STRING "SHA-256 of ORT_ARCHIVE_URL")
set(ORT_DEBIAN_SUITE "experimental" CACHE STRING "Debian suite whose libonnxruntime-dev has API >= ${ORT_MIN_API}")
set(ORT_HEADERS_DIR "${PROJECT_SOURCE_DIR}/build/onnxruntime-headers" CACHE PATH "Where fetched headers are unpacked")

# out = why the folder of headers cannot be used, empty when it can
function(ort_headers_complaint folder out)
  foreach(header onnxruntime_c_api.h onnxruntime_ep_c_api.h)
    if(NOT EXISTS "${folder}/${header}")
      set(${out} "${folder} has no ${header}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  file(STRINGS "${folder}/onnxruntime_c_api.h" line REGEX "^#define ORT_API_VERSION [0-9]+")
  string(REGEX MATCH "[0-9]+" api "${line}")
  if(NOT api GREATER_EQUAL ORT_MIN_API)
    set(${out} "${folder} has API version '${api}', needed is ${ORT_MIN_API} or newer" PARENT_SCOPE)
    return()
  endif()
  set(${out} "" PARENT_SCOPE)
endfunction()

# Moves the folder of headers found below `unpacked` to its place, in one step, so that no half of it is ever seen.
function(ort_headers_keep unpacked out)
  file(GLOB_RECURSE found "${unpacked}/*/onnxruntime_c_api.h")
  if(NOT found)
    set(${out} "no onnxruntime_c_api.h inside" PARENT_SCOPE)
    return()
  endif()
  list(GET found 0 header)
  get_filename_component(folder "${header}" DIRECTORY)
  ort_headers_complaint("${folder}" complaint)
  if(complaint)
    set(${out} "${complaint}" PARENT_SCOPE)
    return()
  endif()
  file(RENAME "${folder}" "${ORT_HEADERS_DIR}/include")
  set(${out} "" PARENT_SCOPE)
endfunction()

function(ort_headers_from_archive work out)
  set(archive "${work}/onnxruntime.tgz")
  # One byte first: CMake has no limit for connecting alone, and a firewall may let it wait for ever.
  # No EXPECTED_HASH: it would end the configure, and there is another way to try.
  file(DOWNLOAD "${ORT_ARCHIVE_URL}" "${archive}" RANGE_START 0 RANGE_END 0 TIMEOUT 20 TLS_VERIFY ON STATUS status)
  list(GET status 0 code)
  if(code EQUAL 0)
    file(DOWNLOAD "${ORT_ARCHIVE_URL}" "${archive}" TIMEOUT 600 INACTIVITY_TIMEOUT 20 TLS_VERIFY ON STATUS status)
    list(GET status 0 code)
  endif()
  if(NOT code EQUAL 0)
    list(GET status 1 reason)
    set(${out} "download failed: ${reason}" PARENT_SCOPE)
    return()
  endif()
  file(SHA256 "${archive}" sha256)
  if(NOT sha256 STREQUAL ORT_ARCHIVE_SHA256)
    set(${out} "SHA-256 is ${sha256}, expected ${ORT_ARCHIVE_SHA256}" PARENT_SCOPE)
    return()
  endif()
  file(ARCHIVE_EXTRACT INPUT "${archive}" DESTINATION "${work}/archive" PATTERNS "*.h")
  ort_headers_keep("${work}/archive" reason)
  set(${out} "${reason}" PARENT_SCOPE)
endfunction()

# apt with lists, cache and sources of its own: the machine's are neither read nor changed.
function(ort_headers_from_mirror mirror keyring work out)
  set(apt "${work}/apt")
  file(REMOVE_RECURSE "${apt}")
  file(MAKE_DIRECTORY "${apt}/lists/partial" "${apt}/cache/archives/partial")
  file(WRITE "${apt}/sources.list" "deb [signed-by=${keyring}] ${mirror} ${ORT_DEBIAN_SUITE} main\n")
  set(apt_get apt-get -q
      -o Dir::Etc::SourceList=${apt}/sources.list -o Dir::Etc::SourceParts=/dev/null
      -o Dir::State::Lists=${apt}/lists -o Dir::Cache=${apt}/cache -o Acquire::Languages=none
      -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 -o APT::Update::Error-Mode=any
      -o Acquire::Check-Valid-Until=false # a mirror that stands still serves as well: signature and API are checked
      -o APT::Sandbox::User=root) # the build folder may be closed to apt's own user
  foreach(step "update" "download;libonnxruntime-dev")
    execute_process(COMMAND ${apt_get} ${step} WORKING_DIRECTORY "${apt}" TIMEOUT 180
                    RESULT_VARIABLE failed OUTPUT_QUIET ERROR_VARIABLE reason)
    if(failed)
      set(${out} "${reason}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  file(GLOB package "${apt}/libonnxruntime-dev_*.deb")
  execute_process(COMMAND dpkg -x "${package}" "${work}/debian" OUTPUT_QUIET ERROR_QUIET)
  ort_headers_keep("${work}/debian" reason)
  set(${out} "${reason}" PARENT_SCOPE)
endfunction()

# Debian signs experimental with the keys that every Debian machine has; other distributions end here with a reason.
function(ort_headers_from_debian work out)
  set(keyring /usr/share/keyrings/debian-archive-keyring.gpg)
  find_program(apt_get apt-get NO_CACHE)
  find_program(dpkg dpkg NO_CACHE)
  if(NOT apt_get OR NOT dpkg)
    set(${out} "no apt-get and dpkg on this machine" PARENT_SCOPE)
    return()
  elseif(NOT EXISTS ${keyring})
    set(${out} "no ${keyring} to check the signature with (package debian-archive-keyring)" PARENT_SCOPE)
    return()
  endif()
  execute_process(COMMAND apt-get indextargets --format "$(SITE)" "Created-By: Packages"
                  OUTPUT_VARIABLE mirrors ERROR_QUIET)
  string(REGEX MATCHALL "[^\n]+" mirrors "${mirrors}")
  list(REMOVE_DUPLICATES mirrors)
  set(reasons "")
  foreach(mirror IN LISTS mirrors)
    ort_headers_from_mirror("${mirror}" ${keyring} "${work}" reason)
    if(NOT reason)
      set(${out} "" PARENT_SCOPE)
      return()
    endif()
    string(REGEX REPLACE "[\n]+" " " reason "${reason}")
    list(APPEND reasons "${mirror}: ${reason}")
  endforeach()
  if(NOT mirrors)
    set(reasons "apt is set to no mirror")
  endif()
  set(${out} "${reasons}" PARENT_SCOPE)
endfunction()

# out = the folder of headers to use; ends the configure when there is none
function(ort_headers_find out)
  set(given "${ORT_INCLUDE_DIR}")
  if(NOT given)
    set(given "$ENV{ORT_INCLUDE_DIR}")
  endif()
  if(given)
    ort_headers_complaint("${given}" reason)
    if(reason)
      message(FATAL_ERROR "ORT_INCLUDE_DIR cannot be used: ${reason}. Give another folder, or unset it.")
    endif()
    set(${out} "${given}" PARENT_SCOPE)
    return()
  endif()

  find_path(system onnxruntime_ep_c_api.h PATH_SUFFIXES onnxruntime onnxruntime/core/session NO_CACHE)
  set(system_reason "no onnxruntime_ep_c_api.h in the include folders")
  if(system)
    ort_headers_complaint("${system}" system_reason)
  endif()
  if(NOT system_reason)
    set(${out} "${system}" PARENT_SCOPE)
    return()
  endif()

  set(${out} "${ORT_HEADERS_DIR}/include" PARENT_SCOPE)
  ort_headers_complaint("${ORT_HEADERS_DIR}/include" reason)
  if(NOT reason)
    return()
  endif()
  set(work "${ORT_HEADERS_DIR}/work")
  file(REMOVE_RECURSE "${work}" "${ORT_HEADERS_DIR}/include")
  file(MAKE_DIRECTORY "${work}")
  message(STATUS "Fetching the onnxruntime headers: ${ORT_ARCHIVE_URL}")
  ort_headers_from_archive("${work}" archive_reason)
  set(debian_reason "")
  if(archive_reason)
    message(STATUS "Not had (${archive_reason}); fetching Debian ${ORT_DEBIAN_SUITE}'s libonnxruntime-dev")
    ort_headers_from_debian("${work}" debian_reason)
  endif()
  file(REMOVE_RECURSE "${work}")
  if(debian_reason)
    message(FATAL_ERROR "The onnxruntime C headers (API ${ORT_MIN_API} or newer) were not found. Tried:\n"
            "  ORT_INCLUDE_DIR: not set\n"
            "  system: ${system_reason}\n"
            "  ${ORT_ARCHIVE_URL}: ${archive_reason}\n"
            "  Debian ${ORT_DEBIAN_SUITE}, libonnxruntime-dev: ${debian_reason}\n"
            "Unpack an onnxruntime release archive and configure again with -DORT_INCLUDE_DIR=<its include folder>, "
            "or set the environment variable ORT_INCLUDE_DIR.")
  endif()
endfunction()

ort_headers_find(include_dir)
message(STATUS "onnxruntime headers: ${include_dir}")
add_library(onnxruntime_headers INTERFACE)
add_library(onnxruntime::headers ALIAS onnxruntime_headers)
target_include_directories(onnxruntime_headers SYSTEM INTERFACE "${include_dir}")
