# Headers, the CMake package (any architecture: there is nothing compiled) and the pkg-config file.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir share/cmake/msg)
install(DIRECTORY include/msg DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp" PATTERN "*.cuh")
install(FILES LICENSE DESTINATION share/licenses/msg)

install(TARGETS msg msg_cuda EXPORT msg-targets INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT msg-targets NAMESPACE msg:: DESTINATION ${package_dir})
configure_package_config_file(cmake/msg-config.cmake.in ${PROJECT_BINARY_DIR}/msg-config.cmake
                              INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/msg-config-version.cmake
                                 COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/msg-config.cmake ${PROJECT_BINARY_DIR}/msg-config-version.cmake
        DESTINATION ${package_dir})

configure_file(cmake/msg.pc.in ${PROJECT_BINARY_DIR}/msg.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/msg.pc DESTINATION share/pkgconfig)
