# lvs_add_module(name SOURCES a.c b.c LINK lvs_base …): the static library lvs_<name> of one folder of src/.
function(lvs_add_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(lvs_${name} STATIC ${ARG_SOURCES})
  target_include_directories(lvs_${name} PUBLIC ${PROJECT_SOURCE_DIR}/include ${PROJECT_BINARY_DIR}/include PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(lvs_${name} PUBLIC ${ARG_LINK} m)
endfunction()

# lvs_add_test(name SOURCES a.c LINK lvs_data … LABELS unit [ARGS …] [TIMEOUT s]): one cmocka program, one ctest entry.
# Tests find recorded files through LVS_SOURCE_DIR.
function(lvs_add_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LINK;LABELS;ARGS" ${ARGN})
  add_executable(test_${name} ${ARG_SOURCES})
  target_include_directories(test_${name} PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_BINARY_DIR}/include
                             ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(test_${name} PRIVATE LVS_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_link_libraries(test_${name} PRIVATE ${ARG_LINK} PkgConfig::CMOCKA m)
  add_test(NAME ${name} COMMAND test_${name} ${ARG_ARGS})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT})
endfunction()
