# Compiler flags that every target shares.
add_compile_options(-Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -fno-math-errno)
if(LVS_WERROR)
  add_compile_options(-Werror)
endif()
if(LVS_SANITIZE)
  add_compile_options(-fsanitize=${LVS_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${LVS_SANITIZE})
endif()
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
# glibc's checks of its callers' buffers, which some distributions switch on by themselves: the same everywhere.
if(NOT LVS_SANITIZE)
  set(optimised $<AND:$<COMPILE_LANGUAGE:C>,$<CONFIG:Release,RelWithDebInfo>>)
  add_compile_options($<${optimised}:-U_FORTIFY_SOURCE> $<${optimised}:-D_FORTIFY_SOURCE=2>)
endif()
# Assertions guard our own invariants; they stay in every build.
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")
set(CMAKE_C_FLAGS_RELEASE "-O3")
