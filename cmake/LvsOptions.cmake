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
# Assertions guard our own invariants; they stay in every build.
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")
set(CMAKE_C_FLAGS_RELEASE "-O3")
