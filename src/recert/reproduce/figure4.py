from recert.reproduce.study import Study
FIGURE4 = Study("figure4","x",{},lambda r:[],lambda r,x:None)
