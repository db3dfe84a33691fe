# The report's sources, and report/*.css and *.js as C arrays, made when CMake configures.
set(LVS_REPORT_SOURCES report_data.c report_svg.c report_axes.c report_color.c report_figures.c report_heatmap.c report_describe.c
    report_curves.c report_scatter.c report_parallel.c report_forecast.c report_budget.c report_workers.c
    report_summary.c report_tables.c report_provenance.c report_html.c watch_view.c watch_text.c)

set(assets "/* Made by src/results/report.cmake from src/results/report/. */\n#include \"report_internal.h\"\n")
foreach(file figure.css page.css page.js)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/report/${file})
  file(READ report/${file} bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(REPLACE "." "_" name report_${file})
  string(APPEND assets "const char ${name}[] = {${bytes}0};\n")
endforeach()
file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/report_assets.c CONTENT "${assets}" @ONLY)
list(APPEND LVS_REPORT_SOURCES ${CMAKE_CURRENT_BINARY_DIR}/report_assets.c)
