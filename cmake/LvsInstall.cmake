# What is installed beside the program: manual page and completions written by the program itself, presets, job scripts.
# `cpack -G DEB` makes a package; configure with -DCMAKE_INSTALL_PREFIX=/usr for it.
include(GNUInstallDirs)
# Libraries from modules or spack are found again where they were found; a package leaves that to the system.
if(NOT CMAKE_INSTALL_PREFIX STREQUAL "/usr")
  set_target_properties(lvsweep PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
endif()
set(LVS_WRITTEN ${PROJECT_BINARY_DIR}/written)
file(MAKE_DIRECTORY ${LVS_WRITTEN})

# lvs_written(FILE argument…): the program's output with these arguments, as a file of the build.
function(lvs_written file)
  add_custom_command(OUTPUT ${LVS_WRITTEN}/${file} COMMAND lvsweep ${ARGN} > ${LVS_WRITTEN}/${file} DEPENDS lvsweep VERBATIM)
  set_property(GLOBAL APPEND PROPERTY LVS_WRITTEN_FILES ${LVS_WRITTEN}/${file})
endfunction()

if(NOT CMAKE_CROSSCOMPILING)
  lvs_written(lvsweep.1 help --man)
  lvs_written(lvsweep.bash completion bash)
  lvs_written(_lvsweep completion zsh)
  get_property(LVS_WRITTEN_FILES GLOBAL PROPERTY LVS_WRITTEN_FILES)
  add_custom_target(lvsweep_written ALL DEPENDS ${LVS_WRITTEN_FILES})
  install(FILES ${LVS_WRITTEN}/lvsweep.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES ${LVS_WRITTEN}/lvsweep.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME lvsweep)
  install(FILES ${LVS_WRITTEN}/_lvsweep DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
endif()

install(DIRECTORY sweeps/ DESTINATION ${CMAKE_INSTALL_DATADIR}/lvsweep/sweeps
  FILES_MATCHING PATTERN "*.ini" PATTERN "*.json" PATTERN "*.safetensors")
install(DIRECTORY jobscripts/ DESTINATION ${CMAKE_INSTALL_DATADIR}/lvsweep/jobscripts USE_SOURCE_PERMISSIONS)
install(FILES LICENSE CITATION.cff DESTINATION ${CMAKE_INSTALL_DOCDIR})
if(EXISTS ${PROJECT_SOURCE_DIR}/README.md)
  install(FILES README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
endif()

set(CPACK_PACKAGE_NAME lvsweep)
set(CPACK_PACKAGE_CONTACT "The lvsweep developers")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_PACKAGING_INSTALL_PREFIX ${CMAKE_INSTALL_PREFIX})
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_GENERATOR DEB)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS openmpi-bin)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
include(CPack)
