# YOIO_STATIC: programs hold their libraries, so that what one machine builds another runs. What stays outside is
#   - glibc, the CUDA driver, cuBLASLt and NCCL: of the machine that runs them, found by ld.so alone;
#   - Highway, which Debian ships as a shared library only, and OpenBLAS, which would put 8 MB into each program: both
#     travel beside the programs, in the folder they are built into.
# Include before the first find_package.
include_guard()

set(CMAKE_FIND_LIBRARY_SUFFIXES .a .so)
set(OPENSSL_USE_STATIC_LIBS ON)
set(Protobuf_USE_STATIC_LIBS ON)

# GPU code is a third of a program, and a seventh of itself when compressed.
add_compile_options($<$<COMPILE_LANGUAGE:CUDA>:-compress-mode=size>)
add_link_options(-static-libstdc++ -static-libgcc LINKER:--as-needed LINKER:--gc-sections)
# Beside the program, or beside the programs when it is a test; no path of this machine.
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
set(CMAKE_INSTALL_RPATH "$ORIGIN;$ORIGIN/../bin")

# Points every imported target of this folder that names a shared library at the archive beside it. Packages with a
# CMake configuration name one kind only, and on Debian it is the shared one; RE2 comes from pkg-config, as -lre2.
function(yoio_use_archives)
  if(TARGET re2::re2)
    get_target_property(type re2::re2 TYPE)
    if(type STREQUAL INTERFACE_LIBRARY)
      find_library(RE2_LIBRARY re2 REQUIRED)
      set_target_properties(re2::re2 PROPERTIES INTERFACE_LINK_LIBRARIES ${RE2_LIBRARY})
    endif()
  endif()
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target ${targets})
    get_target_property(configurations ${target} IMPORTED_CONFIGURATIONS)
    foreach(configuration ${configurations})
      get_target_property(library ${target} IMPORTED_LOCATION_${configuration})
      string(REGEX REPLACE "\\.so(\\.[0-9]+)*$" ".a" archive "${library}")
      if(library AND NOT archive STREQUAL library)
        if(NOT EXISTS ${archive})
          message(FATAL_ERROR "YOIO_STATIC needs ${archive}, which is missing; ${library} alone cannot be carried")
        endif()
        set_target_properties(${target} PROPERTIES IMPORTED_LOCATION_${configuration} ${archive}
                                                   IMPORTED_SONAME_${configuration} "")
      endif()
    endforeach()
  endforeach()
endfunction()

# Copies a shared library, under the name that programs ask for, to where they are built.
function(yoio_carry_library library)
  get_filename_component(real ${library} REALPATH)
  file(MAKE_DIRECTORY ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
  execute_process(COMMAND ${CMAKE_OBJDUMP} -p ${real} OUTPUT_VARIABLE headers COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCH "SONAME +([^\n]+)" unused "${headers}")
  configure_file(${real} ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/${CMAKE_MATCH_1} COPYONLY)
endfunction()

# A shared library `name`, built to where programs are, of what the functions in ARGN need of OpenBLAS. Its kernels for
# processors without AVX2 give way to those for any: no such machine takes the GPUs that this build is for, and they are
# three quarters of the library.
function(yoio_shared_openblas name archive)
  file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/${name}.cc CONTENT "")  # a library has a source
  add_library(${name} SHARED ${CMAKE_CURRENT_BINARY_DIR}/${name}.cc)
  list(TRANSFORM ARGN PREPEND LINKER:-u, OUTPUT_VARIABLE roots)
  set(old)
  if(CMAKE_SYSTEM_PROCESSOR STREQUAL x86_64)
    set(old CORE2 DUNNINGTON PENRYN NEHALEM ATOM NANO SANDYBRIDGE OPTERON OPTERON_SSE3 BARCELONA BOBCAT BULLDOZER
            PILEDRIVER STEAMROLLER EXCAVATOR)
    list(TRANSFORM old REPLACE "(.+)" "LINKER:--defsym=gotoblas_\\1=gotoblas_PRESCOTT")
  endif()
  target_link_options(${name} PRIVATE ${roots} ${old})
  target_link_libraries(${name} PRIVATE ${archive} Threads::Threads m)
  set_target_properties(${name} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
endfunction()
